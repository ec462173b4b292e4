"""Ways to bring a mask to its picture: each finds a plain edge, and the command compares them on the same photos."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from humanseg.vision.arrays import Size
from humanseg.vision.letterbox import letterbox
from support.models import write_red_model
from support.photos import write_photo
from train import upsampling
from train.upsampling import WAYS


@pytest.mark.parametrize("name", WAYS)
def test_a_disc_keeps_its_place_and_its_size(name: str) -> None:
    picture = np.full((360, 640, 3), 40, np.uint8)
    cv2.circle(picture, (300, 170), 90, (220, 220, 220), cv2.FILLED, cv2.LINE_AA)
    network_input, placement = letterbox(picture, Size(320, 192))
    alpha = (network_input[..., 0].astype(np.float32) - 40) / 180
    alpha[network_input[..., 0] < 40] = 0
    found = WAYS[name](np.clip(alpha, 0, 1), network_input, placement, picture)
    assert found.shape == (360, 640)
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1
    truth = picture[..., 0] > 130
    assert np.logical_xor(found >= 0.5, truth).sum() < 0.01 * truth.sum()


def test_the_command_judges_every_way_on_the_same_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(24):
        write_photo(tmp_path / "data", "discs", f"{number:02}", size=(64, 40), seed=number)
    model, report = tmp_path / "medium.onnx", tmp_path / "report.json"
    write_red_model(model)
    assert upsampling.main(["--onnx", str(model), "--data", str(tmp_path / "data"), "--json", str(report)]) == 0
    rows = json.loads(report.read_text())
    assert list(rows) == list(WAYS)
    assert all(0 <= row["mean_iou"] <= 1 and row["cpu_ms"] > 0 for row in rows.values())
    assert "guided r 2, stretched" in capsys.readouterr().out
    assert upsampling.main(["--onnx", str(tmp_path / "none.onnx"), "--data", str(tmp_path / "data")]) == 1
