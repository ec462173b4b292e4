"""The image of the Dockerfile, really built and started without a container engine or a registry.

`make image-check` asks for it. buildah builds and runs in its chroot isolation; in the place of each base stands a
minimal Debian with Python, made from packages once. What only a container engine has is not there: a read-only root,
limits, namespaces.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from service.healthcheck import check
from support.manifests import ROOT
from support.timing import limit_s

#: Asked for by name, so that `make test-slow` does not take minutes longer where the tools happen to be installed.
HOME = Path(os.environ["IMAGE_HOME"]) if "IMAGE_HOME" in os.environ else None
#: The base that the Dockerfile names, and what stands in for it.
BASE = "docker.io/library/python:3.11-slim-bookworm"
SUITE = "bookworm"
TOOLS = ("buildah", "mmdebstrap")


def why_no_image() -> str | None:
    """Why none is built here; None: it is."""
    return None if HOME else "IMAGE_HOME names no folder to build in; `make image-check` builds the image and starts it"


def buildah(*words: str, check: bool = True, timeout_s: float = 120) -> str:
    """What a command of buildah writes on standard output."""
    done = subprocess.run(
        [*_buildah(), *words], capture_output=True, text=True, timeout=limit_s(timeout_s), check=False
    )
    assert not check or done.returncode == 0, f"buildah {' '.join(words)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def _buildah() -> list[str]:
    assert HOME is not None, why_no_image()
    return ["buildah", "--root", str(HOME / "store"), "--runroot", str(HOME / "run"), "--storage-driver", "vfs"]


def make_base() -> None:
    """Make the stand-in and give it the base's name, unless it is there."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    assert not missing, (
        f"no {' and no '.join(missing)} here: apt-get install --no-install-recommends buildah crun mmdebstrap"
    )
    assert HOME is not None
    HOME.mkdir(parents=True, exist_ok=True)
    if buildah("images", "--quiet", BASE, check=False):
        return
    archive = HOME / f"{SUITE}.tar"
    packages = "--include=ca-certificates,python3,python3-venv"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", packages, SUITE, str(archive)],
        timeout=limit_s(1200), check=True,
    )  # fmt: skip
    container = buildah("from", "scratch").strip()
    buildah("add", "--quiet", container, str(archive), "/", timeout_s=600)
    buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    buildah("commit", "--quiet", "--rm", container, BASE, timeout_s=600)
    archive.unlink()


@dataclass(frozen=True)
class Image:
    """A built image."""

    name: str

    @property
    def size(self) -> str:
        """For people, with that of the base."""
        own, base = (
            buildah("images", "--format", "{{.Size}}", name).strip().replace("\n", "") for name in (self.name, BASE)
        )
        return f"{own}, of which the stand-in for the base has {base}"

    @property
    def config(self) -> dict[str, Any]:
        """Docker's configuration: User, Env, Cmd, Healthcheck."""
        config: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", self.name))["Docker"]["config"]
        return config

    @property
    def command(self) -> list[str]:
        """What a container engine starts."""
        return [*(self.config.get("Entrypoint") or []), *self.config["Cmd"]]


@contextmanager
def built_image(name: str, *flags: str) -> Iterator[Image]:
    """Build the Dockerfile, and remove the image at the end."""
    assert HOME is not None, why_no_image()
    make_base()
    # Where the machine's way out has a certificate of its own, pip inside has to know it. Mounts enter no layer.
    mounts: list[str] = []
    if bundle := os.environ.get("SSL_CERT_FILE"):
        settings = HOME / "pip.conf"
        settings.write_text("[global]\ncert = /etc/ssl/host-certificates.crt\n")
        mounts = [
            f"--volume={Path(bundle).resolve()}:/etc/ssl/host-certificates.crt:ro",
            f"--volume={settings}:/etc/pip.conf:ro",
        ]
    buildah(
        "build", "--isolation=chroot", "--pull-never", "--format=docker", "--network=host", "--layers=false",
        *mounts, *flags, f"--tag={name}", str(ROOT), timeout_s=2400,
    )  # fmt: skip
    try:
        yield Image(name)
    finally:
        # By force: where the last stage adds nothing, buildah 1.28 leaves its working container behind.
        buildah("rmi", "--force", name)


@dataclass
class Container:
    """A container whose command runs, on the host's network."""

    name: str
    process: "subprocess.Popen[bytes]"
    port: int
    log_file: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def server(self) -> psutil.Process:
        """The command's own process: the innermost, behind buildah's helpers."""
        inner = psutil.Process(self.process.pid)
        while children := inner.children():
            (inner,) = children
        return inner

    def run(self, *command: str) -> str:
        """Run another command in it."""
        return buildah("run", "--isolation=chroot", "--network=host", *_port(self.port), self.name, "--", *command)

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + limit_s(120)
        while (health := check(self.address)) != "SERVING":
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"the server stayed {health}:\n{self.log}"
            time.sleep(0.2)


def _port(port: int) -> list[str]:
    return [f"--env=HUMANSEG_PORT={port}", "--env=HUMANSEG_METRICS_PORT=0"]


@contextmanager
def started(image: Image, log_file: Path) -> Iterator[Container]:
    """Start the image's command as it stands there, on a free port, as its own user."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    name = buildah("from", "--pull-never", image.name, timeout_s=600).strip()
    command = [*_buildah(), "run", "--isolation=chroot", "--network=host", *_port(port), name, "--", *image.command]
    try:
        with log_file.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        container = Container(name, process, port, log_file)
        try:
            yield container
        finally:
            if process.poll() is None:
                container.server.kill()
                process.wait(limit_s(30))
    finally:
        buildah("rm", name)
