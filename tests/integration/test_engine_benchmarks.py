"""benchmarks.engines and benchmarks.engine_threads on a model of half a kilobyte: the figures are there and add up."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import engine_threads, engines
from support.models import write_red_model

OPENED = ["onnxruntime-cpu", "openvino-f32"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_red_model(tmp_path / "red.onnx")


def test_every_engine_is_measured_and_held_against_the_first_model(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = write_red_model(tmp_path / "half.onnx", divisor=510.0)
    out = tmp_path / "out"
    flags = ["--engine", *reversed(OPENED), "--batch", "1", "3", "--seconds", "0", "--out", str(out)]
    assert engines.main(["--model", str(model), str(half), *flags]) == engines.OK
    report = json.loads((out / "report.json").read_text())
    assert [(one["engine"], one["model"]) for one in report["results"]] == [
        (engine, name) for name in ("red.onnx", "half.onnx") for engine in OPENED
    ]
    for one in report["results"]:
        assert [(cell["canvas"], cell["batch"]) for cell in one["cells"]] == [
            (canvas, batch) for batch in (1, 3) for canvas in ("160x96", "96x160")
        ]
        assert all(cell["runs"] >= 5 and cell["cpu_ms_per_frame"] > 0 < cell["wall_ms"] for cell in one["cells"])
        # The process began before it could import numpy, and it computed for less long than it lived on two cores.
        assert one["cold_start_cpu_s"] > 0
        assert one["cold_start_s"] > 0
        assert one["peak_rss_mib"] > 30
        parity = one["parity_worst_frame"]
        assert one["parity_mean"] <= parity
        assert parity < 1e-5 if one["model"] == "red.onnx" else 0.1 < parity < 0.3
    shown = capsys.readouterr().out
    assert shown.count("onnxruntime-cpu") == 2 * (1 + 2)


def test_an_engine_that_cannot_run_here_is_named_with_the_reason(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that fails to import comes before the real one."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "openvino.py").write_text("raise ImportError('not here', name='openvino')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    flags = ["--engine", "openvino-f32", "--batch", "1", "--seconds", "0", "--out", str(tmp_path)]
    assert engines.main(["--model", str(model), *flags]) == engines.OK
    default, absent = json.loads((tmp_path / "report.json").read_text())["results"]
    assert (default["engine"], len(default["cells"])) == ("onnxruntime-cpu", 2)
    assert absent["unavailable"].startswith("engine openvino-f32 needs a package that is not installed: openvino;")
    shown = " ".join(capsys.readouterr().out.split())
    assert "engine openvino-f32 needs a package" in shown
    assert "`humanseg[openvino]`" in shown, "brackets are no markup"


@pytest.mark.parametrize("command", [engines, engine_threads])
def test_what_cannot_be_measured_is_one_line(
    command: object, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = command.main  # type: ignore[attr-defined]
    out = ["--out", str(tmp_path / "out")]
    assert main(["--model", str(tmp_path / "none.onnx"), *out]) == 1
    assert "no model file" in capsys.readouterr().err
    assert main(["--model", str(model), "--clip", str(model), *out]) == 1
    assert str(model) in capsys.readouterr().err
    broken = write_red_model(tmp_path / "nan.onnx", divisor=0.0)
    assert main(["--model", str(broken), *out, "--seconds", "0"]) == 1
    error = capsys.readouterr().err
    assert "answers values from " in error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "report.json").exists()


def test_every_plan_for_the_threads_is_measured(model: Path, tmp_path: Path) -> None:
    flags = ["--model", str(model), "--threads", "2", "--seconds", "0", "--rounds", "2", "--out", str(tmp_path)]
    assert engine_threads.main(flags) == engine_threads.OK
    plans = json.loads((tmp_path / "report.json").read_text())["plans"]
    assert [plan["callers"] for plan in plans] == [2, 1, 1, 1, 2, 2, 2, 1, 1]
    assert [plan["batch"] for plan in plans] == [1] * 7 + [2, 2]
    for plan in plans:
        assert plan["cpu_ms_per_frame"] > 0
        assert plan["frames_per_s"] > 0
        assert 0 < plan["wall_ms_p50"] <= plan["wall_ms_p99"]


def test_without_openvino_the_other_plans_are_measured(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "engines.openvino_cpu", raising=False)
    flags = ["--model", str(model), "--threads", "2", "--seconds", "0", "--rounds", "1", "--out", str(tmp_path)]
    assert engine_threads.main(flags) == engine_threads.OK
    assert len(json.loads((tmp_path / "report.json").read_text())["plans"]) == 6
    assert "without OpenVINO: engine openvino-f32 needs a package that is not installed: openvino" in (
        " ".join(capsys.readouterr().out.split())
    )
