"""The comparison with others: who beats whom, what is counted, and what is said of those that cannot be run."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks.peers.bare_engine import BareEngine
from benchmarks.peers.contest import Conditions, pareto, print_contest, render, report_of
from benchmarks.peers.measure import PASSES, chosen, judge
from benchmarks.peers.paddle_smoothing import PaddleSmoothing
from benchmarks.peers.peer import Peer, PeerUnavailableError
from benchmarks.peers.tflite import TfLite
from benchmarks.peers.triton_server import TritonServer
from humanseg.vision.arrays import Alpha, Picture, Size
from support.bench_reports import MACHINE
from support.browser import READABLE_PX, find_browser, look_at
from support.models import write_red_model
from support.photos import draw_room, write_photo
from train.data import find_photos


def ran(name: str, iou: float, cpu_ms: float) -> dict[str, Any]:
    figures = {"mean_iou": iou, "boundary_f": 0.5, "cpu_ms_per_frame": cpu_ms, "photos": 9}
    return {"name": name, "how": "somehow", **figures, "frame_p50_ms": 2.0, "frame_p99_ms": 3.0, "frames": 30}


PEERS = [
    ran("slow and best", 0.95, 20.0),
    ran("slower and worse", 0.94, 30.0),
    ran("cheap", 0.80, 2.0),
    ran("as cheap and worse", 0.79, 2.0),
    ran("between", 0.90, 8.0),
    {"name": "absent", "how": "x", "not_run": "needs LiteRT: install `humanseg[peers]`"},
]


def test_on_the_front_is_whom_nobody_beats_at_the_same_or_a_lower_cost() -> None:
    assert pareto(PEERS) == ["cheap", "between", "slow and best"]
    assert pareto(PEERS[-1:]) == []


def contest(peers: list[dict[str, Any]]) -> dict[str, Any]:
    conditions = Conditions(Path("m"), "medium", (), Path("d"), 9, False, 30, Size(640, 360), None)
    return report_of(peers, conditions, MACHINE, ["python", "benchmarks/run.py"])


def test_the_table_names_every_contestant_and_why_one_was_not_run() -> None:
    console = Console(file=io.StringIO(), width=120)
    print_contest(contest(PEERS), console)
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    assert all(peer["name"] in text for peer in PEERS)
    assert "absent was not run: needs LiteRT: install `humanseg[peers]`" in text
    assert "the same 9 photos (left aside by training)" in text


def test_the_page_plots_those_that_ran_and_works_with_none() -> None:
    page = render(contest(PEERS))
    assert page.count("<circle") == 5
    assert page.count(">between</text>") == 1
    assert "<svg" not in render(contest(PEERS[-1:]))


@pytest.mark.skipif(find_browser() is None, reason="no chromium here; Debian: apt-get install chromium")
@pytest.mark.parametrize("width", [1400, 390])
def test_contestants_that_lie_close_together_keep_readable_names(width: int, tmp_path: Path) -> None:
    names = ("service, fusion off", "service, fusion high", "bare onnxruntime-cpu", "bare openvino-f32", "PaddleSeg")
    close = [ran(name, 0.939 + 1e-4 * number, 15.0 + number) for number, name in enumerate(names)]
    page = tmp_path / "report.html"
    page.write_text(render(contest([*close, ran("MediaPipe selfie_segmentation_landscape", 0.84, 2.4)])))
    seen = look_at(page, tmp_path, width=width)
    assert seen["smallestText"] >= READABLE_PX
    assert seen["pageWidth"] <= seen["viewWidth"]
    assert seen["overlaps"] == seen["outside"] == seen["faint"] == seen["console"] == seen["fetched"] == []


def test_photos_are_taken_evenly_from_all() -> None:
    photos: Any = list(range(100))
    assert chosen(photos, 4) == [0, 25, 50, 75]
    assert chosen(photos, 200) == photos


class RedPeer(Peer):
    """The drawn person is red, the room is not. Spends a known time elsewhere for each frame of a video."""

    def __init__(self) -> None:
        self.frames = 0

    def segment(self, picture: Picture) -> Alpha:
        return (picture[:, :, 0] > 180).astype(np.float32)

    def follow(self, picture: Picture, capture_time_us: int) -> Alpha:
        self.frames += 1
        return self.segment(picture)

    def cpu_elsewhere_s(self) -> float:
        return 0.5 * self.frames


def test_accuracy_comes_from_the_photos_and_cost_from_all_processes(tmp_path: Path) -> None:
    for number in range(3):
        write_photo(tmp_path, "room", f"p{number}", size=(160, 120), seed=number)
    peer = RedPeer()
    found = judge(peer, find_photos(tmp_path), [draw_room(32, 24), draw_room(32, 24, 1)], frames=4)
    assert found.mean_iou > 0.97
    assert found.photos == 3
    # Half a second of another process for each frame, and hardly anything of this one.
    assert found.cpu_ms_per_frame == pytest.approx(500, abs=50)
    assert found.frames == 4 * PASSES


def test_the_published_smoothing_needs_a_past_and_the_bare_engine_has_none(tmp_path: Path) -> None:
    write_red_model(tmp_path / "medium.onnx")
    bare = BareEngine(tmp_path, "medium", "onnxruntime-cpu")
    smoothed = PaddleSmoothing(tmp_path, "medium", "onnxruntime-cpu")
    dark, bright = np.zeros((96, 160, 3), np.uint8), np.full((96, 160, 3), 200, np.uint8)
    for peer in (bare, smoothed):
        np.testing.assert_allclose(peer.follow(dark, 0), 0, atol=0.01)
    np.testing.assert_allclose(bare.follow(bright, 33_333), 200 / 255, atol=0.01)
    after = smoothed.follow(bright, 33_333)
    assert 0.05 < float(after.mean()) < 0.5, "most of the past is kept"
    bare.close()
    smoothed.close()


def test_what_cannot_be_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(PeerUnavailableError, match=r"no model named 'huge' among the 0 \*\.onnx"):
        BareEngine(tmp_path, "huge", "onnxruntime-cpu")
    with pytest.raises(PeerUnavailableError, match=r"LiteRT|no file"):
        TfLite(tmp_path / "missing.tflite")
    with pytest.raises(PeerUnavailableError, match=r"Triton's client is not installed|no model named 'medium'"):
        TritonServer("127.0.0.1:1", tmp_path, "medium")
