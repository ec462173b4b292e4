"""A real Prometheus and its promtool: `make monitoring-check` fetches them."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.timing import limit_s

#: Asked for by name: a Prometheus that happens to be installed may be of any age.
HOME = Path(os.environ["PROMETHEUS_HOME"]) if "PROMETHEUS_HOME" in os.environ else None
#: Between two scrapes, and between two evaluations of the rules: a test has no minutes.
INTERVAL_S = 1


def why_no_prometheus() -> str | None:
    """Why there is none here; None: there is."""
    if HOME is None:
        return "PROMETHEUS_HOME names no Prometheus; `make monitoring-check` fetches and tries one"
    lacking = [name for name in ("prometheus", "promtool") if not (HOME / "bin" / name).exists()]
    return f"no {' and no '.join(lacking)} in PROMETHEUS_HOME={HOME}/bin" if lacking else None


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """What it says; its exit status is for the caller."""
    assert HOME is not None, why_no_prometheus()
    command = [HOME / "bin" / "promtool", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit_s(100), check=False)


@dataclass(frozen=True)
class Sample:
    """One element of an instant vector."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class ScrapeTarget:
    """A page of metrics on this machine, and the labels that its samples get."""

    port: int
    labels: dict[str, str]
    path: str = "/metrics"


@dataclass(frozen=True)
class RunningPrometheus:
    """One that scrapes and evaluates."""

    port: int

    def query(self, expr: str, at_s: float | None = None) -> list[Sample]:
        """The vector as it was at that Unix time, or is now; what Prometheus complains of fails the test."""
        answer = self._get("query", query=expr, **({} if at_s is None else {"time": f"{at_s:.3f}"}))
        assert answer["resultType"] == "vector", (expr, answer)
        return [Sample(one["metric"], float(one["value"][1])) for one in answer["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def wait_for(self, value: float, expr: str) -> None:
        """Return once the only element of the vector has that value."""
        deadline = time.monotonic() + limit_s(30)
        while (seen := [one.value for one in self.query(expr)]) != [value]:
            assert time.monotonic() < deadline, f"{expr} stayed {seen}, expected {value}"
            time.sleep(0.1)

    def _get(self, what: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=limit_s(20)) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None


@contextmanager
def running_prometheus(folder: Path, rules: Path, targets: Sequence[ScrapeTarget]) -> Iterator[RunningPrometheus]:
    """Scrape the targets and evaluate the rules, both every `INTERVAL_S`, until the end of the context."""
    assert HOME is not None, why_no_prometheus()
    every = f"{INTERVAL_S}s"
    jobs = [
        {
            "job_name": f"target-{number}",
            "metrics_path": target.path,
            "static_configs": [{"targets": [f"127.0.0.1:{target.port}"], "labels": target.labels}],
        }
        for number, target in enumerate(targets)
    ]
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(rules)],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        HOME / "bin" / "prometheus", f"--config.file={folder / 'prometheus.yml'}", "--log.level=warn",
        f"--storage.tsdb.path={folder / 'samples'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    log_file = folder / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + limit_s(30)
        while not _is_ready(port):
            assert process.poll() is None, log_file.read_text()[-4000:]
            assert time.monotonic() < deadline, log_file.read_text()[-4000:]
            time.sleep(0.1)
        yield RunningPrometheus(port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(limit_s(20))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=limit_s(5)) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
