"""docs/operations.md and docs/performance.md: every name exists, every command works."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.run import parse_arguments
from service.metrics import ServiceMetrics, SupervisorMetrics
from service.settings import ENVIRONMENT_PREFIX, Settings, build_parser
from service.stages import STAGES
from service.stream_protocol import DropReason
from support.models import write_red_model
from support.server import running_server
from support.timing import limit_s

ROOT = Path(__file__).resolve().parent.parent.parent
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text()
SERVICE_SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "service").glob("*.py")))


def shell_blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def exported_metrics() -> set[str]:
    """Names of the service's own metrics, as families and as samples."""
    pages = [generate_latest(metrics.registry).decode() for metrics in (ServiceMetrics(), SupervisorMetrics(2))]
    families = [family for page in pages for family in text_string_to_metric_families(page)]
    names: set[str] = set()
    for family in families:
        names |= {family.name, *(sample.name for sample in family.samples)}
        if family.type == "counter":  # without labels in use there is no sample yet
            names.add(f"{family.name}_total")
    return {name for name in names if name.startswith("humanseg_")}


def test_every_variable_named_is_a_setting() -> None:
    known = {ENVIRONMENT_PREFIX + item.name.upper() for item in fields(Settings)}
    named = set(re.findall(r"HUMANSEG_[A-Z_]+", OPERATIONS + PERFORMANCE))
    assert len(named) > 5
    assert named <= known


def test_every_default_stated_is_the_default() -> None:
    rows = re.findall(r"^\| (`HUMANSEG_[^|]+) \| ([^|]+) \|", OPERATIONS, re.MULTILINE)
    assert len(rows) > 4
    for names, stated in rows:
        for name, default in zip(re.findall(r"`HUMANSEG_(\w+)`", names), stated.split(", "), strict=True):
            assert f"{getattr(Settings(), name.lower())}".removesuffix(".0") == default.strip(), name


def help_of(*program: str) -> str:
    return subprocess.run(
        [sys.executable, *program, "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=limit_s(60), check=True,
    ).stdout  # fmt: skip


def test_every_flag_named_exists() -> None:
    service_flags = set(build_parser()._option_string_actions)
    benchmark_flags = set(re.findall(r"--[a-z-]+", help_of("benchmarks/run.py"))) | {"--no-deps"}  # pip's
    for module in set(re.findall(r"python -m (benchmarks\.\w+)", PERFORMANCE)):
        benchmark_flags |= set(re.findall(r"--[a-z-]+", help_of("-m", module)))
    for text, known in ((OPERATIONS, service_flags | benchmark_flags), (PERFORMANCE, service_flags | benchmark_flags)):
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
        assert named
        assert named <= known


def test_the_table_of_metrics_is_what_is_exported() -> None:
    exported = exported_metrics()
    mentioned = set(re.findall(r"\bhumanseg_[a-z_]+\b", OPERATIONS.replace("humanseg_(", "")))
    assert mentioned <= exported
    families = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in exported}
    told = {re.sub(r"_total$", "", name) for name in mentioned}
    assert families <= told, "a metric that the page does not tell of"
    process = CollectorRegistry()
    ProcessCollector(registry=process)
    for name in set(re.findall(r"\bprocess_[a-z_]+[a-z]\b", OPERATIONS)):
        assert name in generate_latest(process).decode()


def test_the_table_of_events_is_what_is_logged() -> None:
    logged = set(re.findall(r'log\.event\(\s*"([a-z_]+)"', SERVICE_SOURCE))
    table = OPERATIONS[OPERATIONS.index("| event | level |") :].split("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)) == logged
    assert set(re.findall(r"event=([a-z_]+)", OPERATIONS)) <= logged


def test_stages_and_drop_reasons_are_complete() -> None:
    assert f"`{' '.join(STAGES)}`" in OPERATIONS
    for reason in DropReason:
        assert f"`{reason.name.lower()}`" in OPERATIONS, reason


def test_the_commands_of_the_operations_page_work(tmp_path: Path) -> None:
    """Against a real server; its ports take the place of the default ones."""
    write_red_model(tmp_path / "medium.onnx")
    blocks = shell_blocks(OPERATIONS)
    assert len(blocks) >= 3
    with running_server(tmp_path) as server:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "HUMANSEG_PORT": str(server.port), "GRPC_VERBOSITY": "ERROR"}
        for block in blocks:
            assert str(Settings().metrics_port) in block or "curl" not in block
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.replace("9464", str(server.metrics_port))],
                cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit_s(60), check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
            assert done.stdout.strip(), block
    first = shell_blocks(OPERATIONS)[0]
    assert "service.healthcheck" in first


@pytest.mark.parametrize("line", [line for block in shell_blocks(PERFORMANCE) for line in block.splitlines()])
def test_the_commands_of_the_performance_page_are_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command itself is run by tests/integration/test_benchmark_run.py; here its flags and values are read."""
    monkeypatch.chdir(tmp_path)
    Path("talk.mp4").touch()
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    python, program, *flags = shlex.split(line)
    assert python == "python"
    if program == "-m":
        importlib.import_module(flags[0]).parse_arguments(flags[1:])
    else:
        assert program == "benchmarks/run.py"
        parse_arguments(flags)
