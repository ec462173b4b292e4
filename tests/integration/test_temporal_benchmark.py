"""The comparison of fusions as one runs it: drawn photos and a model whose answer is the red channel."""

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import pytest

from benchmarks.temporal import main
from humanseg.video import VideoWriter
from humanseg.vision.temporal_alternatives import Alternative
from support.models import write_red_model
from support.photos import draw_disc, draw_room, write_photo
from train.data import find_photos, split_photos


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for number in range(60):
        write_photo(root, "portraits", f"{number:03}", size=(320, 300), seed=number)
    (root / "backgrounds/images").mkdir(parents=True)
    for number in range(60):
        cv2.imwrite(str(root / f"backgrounds/images/{number:03}.jpg"), draw_room(300, 200, number)[:, :, ::-1])
    split = split_photos(find_photos(root))
    assert split.validation
    assert split.validation_backgrounds
    return root


def test_one_run_writes_report_plots_and_videos(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    with VideoWriter(videos / "disc.mp4", Fraction(25)) as writer:
        for _ in range(4):
            writer.write(draw_disc(160, 96)[0])
    model, out = write_red_model(tmp_path / "red.onnx"), tmp_path / "out"
    arguments = ["--model", str(model), "--data", str(data), "--videos", str(videos), "--out", str(out)]
    assert main([*arguments, "--kind", "still", "cut", "--seeds", "0", "--fps", "30", "--seconds", "0.5"]) == 0

    report = json.loads((out / "report.json").read_text())
    rows = {(row["group"], row["alternative"]): row for row in report["rows"]}
    groups = ("still 30 fps", "cut 30 fps", "disc (real)")
    assert rows.keys() == {(group, name) for group in groups for name in Alternative}
    assert len(report["sequences"]) == len(rows)
    # Real relations that no broken run would show by chance.
    for group in groups:
        assert rows[group, "off"]["ghost_percent"] in (0, None)
        assert rows[group, "off"]["lag_frames"] == 1
    still = {name: rows["still 30 fps", name] for name in Alternative}
    assert still["high"]["flicker"] < still["low"]["flicker"] < still["off"]["flicker"]
    assert still["high"]["lag_frames"] <= 2 < still["ema"]["lag_frames"]
    assert rows["cut 30 fps", "high"]["cut_residue"] == 0 < rows["cut 30 fps", "ema"]["cut_residue"]
    assert rows["disc (real)", "off"]["iou_percent"] is None
    assert report["machine"]["cpu_cores_usable"] >= 1

    assert {limit["group"] for limit in report["limits"]} == {"still 30 fps", "cut 30 fps"}
    estimates = {one["group"]: one for one in report["estimates"]["groups"]}
    assert estimates.keys() == {"still 30 fps", "cut 30 fps"}
    # Fifteen frames, of which five are seen; the cut falls on the eighth, and two have no memory of the new scene.
    assert estimates["still 30 fps"]["estimated"] == 10
    assert estimates["cut 30 fps"]["estimated"] == 8
    assert estimates["still 30 fps"]["iou_estimate"] > estimates["still 30 fps"]["iou_network"] - 1

    for name in ("flicker", "tradeoff", "step"):
        picture = cv2.imread(str(out / f"{name}.png"))
        assert picture is not None
        assert picture.std() > 5
    with av.open(out / "still_0_30.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 15
    assert (out / "disc.mp4").exists()
    shown = capsys.readouterr().out
    assert "still 30 fps" in shown
    assert "times the bare flow" in shown


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"--model": "missing.onnx"}, "missing.onnx"), ({"--data": "nowhere"}, "nowhere"), ({"--videos": "none"}, "none")],
)
def test_what_is_missing_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], complaint: str
) -> None:
    given = {"--model": str(write_red_model(tmp_path / "red.onnx")), "--data": str(data), "--out": str(tmp_path / "o")}
    flat = [part for pair in {**given, **change}.items() for part in pair]
    assert main([*flat, "--seeds", "0"]) == 1
    assert complaint in capsys.readouterr().err


def test_a_frame_rate_out_of_range_is_a_usage_error(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--model", "m.onnx", "--data", str(data), "--fps", "100"])
    assert exit_.value.code == 2
    assert "allowed are 5 to 60" in capsys.readouterr().err
