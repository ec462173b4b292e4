"""NVIDIA's perf_analyzer against the service: `make perf-analyzer-check`."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton

from benchmarks.agreement import STATUS
from benchmarks.perf_analyzer import AnalyzerError, analyze, why_not
from humanseg.vision.arrays import Size
from support.models import write_red_model
from support.server import ROOT, RunningServer, running_server
from support.timing import limit_s

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(limit_s(200)),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

SIZE = Size(160, 96)
REQUESTS = 60
SEQUENCES = {
    "sequences-of-one-picture": ("--sequence-length", "1"),
    "streaming": ("--streaming", "--async", "--sequence-length", "20", "--concurrency-range", "2"),
    "shared-memory": ("--shared-memory", "system", "--output-shared-memory-size", str(SIZE.area_px)),
    "shared-memory-streaming": (
        "--shared-memory", "system", "--output-shared-memory-size", str(SIZE.area_px), "--streaming", "--async",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_red_model(folder / "medium.onnx")
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[RunningServer]:
    with running_server(models, "--kserve", "--kserve-shared-memory", "--max-messages-per-s", "0") as running:
        yield running


def statistics(server: RunningServer) -> Any:
    with triton.InferenceServerClient(server.target) as client:
        return client.get_inference_statistics("medium").model_stats[0]


@pytest.mark.parametrize("kind", SEQUENCES)
def test_it_ends_well_and_every_request_has_its_mask(server: RunningServer, kind: str) -> None:
    before, errors = statistics(server), server.log().count("level=error")
    sessions = server.metric("humanseg_sessions_total", outcome="ok")
    analysis = analyze(server.target, "medium", SIZE, REQUESTS, *SEQUENCES[kind])
    after = statistics(server)
    (count,) = re.findall(r"^ +Request count: (\d+)$", analysis.output, re.MULTILINE)
    (inferences,) = re.findall(r"^ +Inference count: (\d+)$", analysis.output, re.MULTILINE)
    assert int(count) >= REQUESTS
    assert int(inferences) >= REQUESTS, "by the statistics that it asked us for"
    assert after.inference_count - before.inference_count >= REQUESTS
    assert after.inference_stats.fail.count == before.inference_stats.fail.count
    assert analysis.per_s > 0
    assert 0 < analysis.figures["p50_ms"] <= analysis.figures["p90_ms"] <= analysis.figures["p99_ms"]
    assert server.log().count("level=error") == errors
    server.wait_for_metric(0, "humanseg_sessions_active")
    assert server.metric("humanseg_sessions_total", outcome="ok") > sessions, "its sequences were sessions"


def test_a_server_that_refuses_its_requests_is_no_success(server: RunningServer) -> None:
    with pytest.raises(AnalyzerError, match="perf_analyzer ended with"):
        analyze(server.target, "large", SIZE, REQUESTS)


def test_it_is_held_against_our_own_client_in_one_command(models: Path, tmp_path: Path) -> None:
    flags = ["--models", str(models), "--rounds", "2", "--requests", "30", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.perf_analyzer", *flags],
        cwd=ROOT, capture_output=True, text=True, timeout=limit_s(150), check=False,
    )  # fmt: skip
    assert done.stderr == ""
    report = json.loads((tmp_path / "report.json").read_text())
    assert done.returncode == STATUS[report["verdict"]]
    assert [row["figure"] for row in report["rows"]] == ["p50_ms", "p90_ms", "p99_ms"]
    for one in report["rounds"]:
        for side in ("benchmark", "independent"):
            assert 0 < one[side]["p50_ms"] <= one[side]["p90_ms"] <= one[side]["p99_ms"]
    assert "event=stopped sessions_cut=0" in (tmp_path / "server.log").read_text()
