"""The container's command, started as the manifests say, and asked by their own probes."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.healthcheck import check
from support.certificates import Authority
from support.manifests import ROOT, Manifests, render_with
from support.timing import limit_s


@contextmanager
def started(manifests: Manifests, mounted: dict[str, Path]) -> Iterator[tuple[dict[str, Any], "subprocess.Popen[str]"]]:
    """Command, arguments and variables of the container; only ports are free ones, and mounts folders of the test."""
    variables = dict(manifests.settings)
    for mount, folder in mounted.items():
        variables = {name: value.replace(mount, str(folder)) for name, value in variables.items()}
    python, *command = manifests.container["command"]
    assert python == "python"
    process = subprocess.Popen(
        [sys.executable, *command, *manifests.container["args"], "--port", "0", "--metrics-port", "0"],
        cwd=ROOT, env={"PATH": os.environ["PATH"], "GRPC_VERBOSITY": "ERROR", **variables},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    ready: dict[str, Any] = {}
    lines: list[str] = []
    settled = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if '"event": "ready"' in line:
                ready.update(json.loads(line))
                settled.set()
        settled.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert settled.wait(limit_s(60))
        assert ready, "".join(lines)
        yield ready, process
    finally:
        process.kill()
        process.wait()
        reader.join(limit_s(5))
        assert process.stderr is not None
        process.stderr.close()


def answer_of_ready(ready: dict[str, Any]) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ready['metrics_port']}/ready", timeout=limit_s(10)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_the_cpu_overlay_serves_by_its_own_probe_and_ends_as_asked() -> None:
    manifests = Manifests(render_with("cpu"))
    with started(manifests, {}) as (ready, process):
        assert check(f"127.0.0.1:{ready['port']}") == "SERVING"
        assert ready["engine"] == manifests.settings["HUMANSEG_ENGINE"]
        assert ready["runners"] == int(manifests.settings["HUMANSEG_RUNNERS"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(limit_s(30)) == 0


def test_with_resume_keys_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("0123456789abcdef" * 4 + "\n")
    with started(Manifests(render_with("cpu", "long-streams")), {"/etc/humanseg/resume": tmp_path}) as (ready, _):
        assert check(f"127.0.0.1:{ready['port']}") == "SERVING"


def test_with_tls_only_the_probe_of_the_component_gets_through(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("humanseg", 1)
    certificate.rename(tmp_path / "tls.crt")
    key.rename(tmp_path / "tls.key")
    authority.certificate.rename(tmp_path / "ca.crt")
    manifests = Manifests(render_with("cpu", "mtls"))
    with started(manifests, {"/etc/humanseg/tls": tmp_path}) as (ready, _):
        assert manifests.container["readinessProbe"]["httpGet"]["path"] == "/ready"
        assert answer_of_ready(ready) == 200
        assert check(f"127.0.0.1:{ready['port']}") != "SERVING", "in the clear"
