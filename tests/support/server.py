"""A real server in a process of its own, on port 0."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from support.timing import limit_s

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class RunningServer:
    """The server under test."""

    process: "subprocess.Popen[str]"
    log_lines: list[str] = field(default_factory=list)
    port: int = 0
    metrics_port: int = 0

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of /metrics with these labels, one a worker; 0.0 where there is none (yet)."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=limit_s(10)) as answer:
            text = answer.read().decode()
        total = 0.0
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items()):
                    total += float(sample.value)
        return total

    def wait_for_metric(self, value: float, name: str, **labels: str) -> None:
        """Return once a sample has that value."""
        deadline = time.monotonic() + limit_s(20)
        while (seen := self.metric(name, **labels)) != value:
            if time.monotonic() > deadline:
                raise AssertionError(f"{name}{labels} stayed {seen}, expected {value}")
            time.sleep(0.05)

    def rss_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def log(self) -> str:
        return "\n".join(self.log_lines)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 30) -> int:
        """Exit status."""
        return self.process.wait(limit_s(seconds))


@contextmanager
def running_server(
    models: Path,
    *flags: str,
    environment: dict[str, str] | None = None,
    cwd: Path = ROOT,
    program: Sequence[str] = ("-m", "service"),
) -> Iterator[RunningServer]:
    """Start the server that lies in ``cwd`` on free ports, wait until it is ready, and stop it at the end."""
    command = [
        sys.executable, *program, "--port", "0", "--metrics-port", "0", "--models", str(models), *flags
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={
            **os.environ,
            "GRPC_VERBOSITY": "ERROR",
            "PYTHONASYNCIODEBUG": "1",
            # On a busy machine even a small model takes so long that a second session would be refused, and a stream
            # that floods on purpose would be degraded or its frames late; tests of that ask for it.
            "HUMANSEG_ADMISSION_LOAD": "0",
            "HUMANSEG_DEGRADE": "false",
            "HUMANSEG_FRAME_DEADLINE_S": "0",
            **(environment or {}),
        },
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    server = RunningServer(process)
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            server.log_lines.append(line.rstrip())
            if " event=ready " in line:
                server.port = int(re.search(r" port=(\d+)", line)[1])  # type: ignore[index]
                server.metrics_port = int(re.search(r" metrics_port=(\d+)", line)[1])  # type: ignore[index]
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        if not ready.wait(limit_s(30)) or not server.metrics_port:
            raise AssertionError(f"the server did not come up:\n{server.log()}")
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(limit_s(10))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join(limit_s(5))
        if process.stderr is not None:
            process.stderr.close()


def sample_names(server: RunningServer) -> set[str]:
    """Names of all samples on its page of metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=limit_s(10)) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {sample.name for family in families for sample in family.samples}
