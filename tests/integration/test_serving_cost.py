"""benchmarks.serving_cost against real servers with tiny models: whose time it counts, and what it refuses."""

import json
from pathlib import Path

import pytest

from benchmarks import serving_cost
from benchmarks.closed_loop import Drive, LoopError, opened
from benchmarks.echo_server import EchoServer
from humanseg.options import TemporalFusion
from humanseg.vision.arrays import Size
from support.models import write_slow_model
from support.server import RunningServer

SMALL = Size(64, 36)
FRAME = bytes(64 * 36 * 3 // 2)


def drive(*pictures: bytes, sessions: int = 1) -> Drive:
    return Drive(SMALL, pictures, TemporalFusion.OFF, sessions, under_way=2)


def test_the_report_takes_engine_and_fusion_off_the_servers_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an engine that costs far more than all serving: were its time not taken off, nothing else would show."""
    models = tmp_path / "models"
    models.mkdir()
    # Found by its name, wherever the file lies: the engine alone runs the same one.
    write_slow_model(models / "some.onnx", name="medium", side=600)
    out = tmp_path / "out"
    status = serving_cost.main(
        ["--models", str(models), "--passes", "1", "--seconds", "0.5", "--warmup-s", "0.1", "--out", str(out)]
    )
    assert status == serving_cost.NOT_HELD  # if only for the few masks
    report = json.loads((out / "report.json").read_text())
    assert any("masks, 200 are needed" in complaint for complaint in report["complaints"])
    (ours,), (echo,) = report["passes"]["service"], report["passes"]["echo"]
    assert 0 < ours["models_cpu_s"] < ours["cpu_s"] + 0.05  # the process' clock ticks in hundredths
    assert ours["models_cpu_s"] > 0.5 * ours["cpu_s"]
    assert echo["models_cpu_s"] == 0 < echo["cpu_s"]
    assert report["saturation"]["efficiency"] > 0
    assert report["plan"]["saturation_sessions"] == 2 * report["plan"]["engine_threads"]
    assert "echo_malloc" in capsys.readouterr().out


async def test_the_loop_counts_each_answer_once_and_ends_with_none_left(server: RunningServer) -> None:
    async with opened(server.target, drive(FRAME, sessions=3)) as loop:
        before = server.metric("humanseg_frames_total", outcome="mask")
        first, second = await loop.run(0.2), await loop.run(0.2)  # the same streams go on
        assert first.masks > 3
        assert server.metric("humanseg_frames_total", outcome="mask") - before == first.masks + second.masks


async def test_its_latencies_cover_the_time_that_frames_were_under_way(server: RunningServer) -> None:
    """One or two of them at every moment, from the first frame to the last mask."""
    async with opened(server.target, drive(FRAME)) as loop:
        count = await loop.run(0.3)
    assert len(count.latencies_ms) == count.masks
    assert 0 < min(count.latencies_ms) <= max(count.latencies_ms) <= count.wall_s * 1000
    assert 0.5 * count.wall_s * 1000 <= sum(count.latencies_ms) <= 2 * count.wall_s * 1000


async def test_an_answer_without_a_mask_ends_the_run_and_is_told(server: RunningServer) -> None:
    async with opened(server.target, drive(FRAME[:-1])) as loop:
        with pytest.raises(LoopError, match="without a mask: frame 1: 3455 bytes for I420 64x36, expected 3456"):
            await loop.run(0.1)


async def test_the_echo_server_answers_the_same_stream_with_masks(tmp_path: Path) -> None:
    with EchoServer(tmp_path / "echo.log", SMALL.area_px, keeps_memory=False) as echo:
        async with opened(echo.address, drive(FRAME, sessions=2)) as loop:
            assert (await loop.run(0.2)).masks > 2
    assert echo.exit_status == 0


def test_malloc_is_set_for_the_echo_server_only_where_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")  # as under `make`
    plain, tuned = (EchoServer(tmp_path / "log", 1, keeps_memory=keeps).environment() for keeps in (False, True))
    assert "MALLOC_TOP_PAD_" not in plain
    assert int(tuned["MALLOC_TOP_PAD_"]) > 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["--passes", "0"], "must be at least 1"), (["--seconds", "0"], "both must be above 0")],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        serving_cost.parse_arguments(arguments)
    assert complaint in capsys.readouterr().err


def test_a_folder_without_models_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serving_cost.main(["--models", str(tmp_path), "--out", str(tmp_path)]) == serving_cost.FAILED
    assert "benchmarks/serving_cost.py: the server ended with status 1" in capsys.readouterr().err
