"""Real sequences: read with their masks, their motion estimated, broken ones named."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.temporal_footage import find_real, from_real
from engines.onnxruntime_cpu import OnnxRuntimeCpuRunner
from humanseg.vision.arrays import Size
from support.clips import disc, texture
from support.models import LANDSCAPE, write_red_model
from train.data import DataError

SIZE = Size(200, 120)
STEP_PX = 3


def write_sequence(folder: Path, count: int = 4) -> Path:
    """A textured wall that a camera pans over, with a disc that goes along."""
    (folder / "frames").mkdir(parents=True)
    (folder / "masks").mkdir()
    wall = texture(Size(SIZE.width + 40, SIZE.height), 3)
    for number in range(count):
        left = 30 - STEP_PX * number
        gray = wall[:, left : left + SIZE.width].astype(np.uint8)
        mask = (255 * (disc(SIZE, (70 + STEP_PX * number, 60), 30) > 0.5)).astype(np.uint8)
        cv2.imwrite(
            str(folder / f"frames/{number:04}.jpg"), cv2.merge([gray, gray, gray]), [cv2.IMWRITE_JPEG_QUALITY, 98]
        )
        cv2.imwrite(str(folder / f"masks/{number:04}.png"), mask)
    return folder


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> OnnxRuntimeCpuRunner:
    return OnnxRuntimeCpuRunner(write_red_model(tmp_path_factory.mktemp("m") / "m.onnx"), max_batch=1, concurrency=1)


def test_a_sequence_of_pictures_is_read_with_its_truth(tmp_path: Path, runner: OnnxRuntimeCpuRunner) -> None:
    write_sequence(tmp_path / "pan")
    footage = from_real(find_real(tmp_path)[0], runner)
    assert footage.group == "pan (real)"
    assert footage.truths is not None
    assert footage.truths[2][60, 70 + 2 * STEP_PX] == 1
    assert set(np.unique(footage.truths[0])) == {0, 1}
    assert footage.times_us[:3] == [0, 41667, 83333]
    # The red model answers with the red channel, through the service's letterbox: 200x120 fills 160x96.
    assert footage.raws[0].shape == LANDSCAPE.shape == footage.grays[0].shape
    np.testing.assert_allclose(footage.raws[0], footage.grays[0] / 255, atol=1.5 / 255)


def test_the_motion_leads_back(tmp_path: Path, runner: OnnxRuntimeCpuRunner) -> None:
    """The picture goes three pixels to the right, so each pixel came from three to the left."""
    footage = from_real(write_sequence(tmp_path / "pan"), runner)
    inside = footage.motions[1][20:-20, 30:-30]
    assert np.median(inside[:, :, 0]) == pytest.approx(-STEP_PX, abs=0.2)
    assert np.median(inside[:, :, 1]) == pytest.approx(0, abs=0.2)
    assert footage.known[1][20:-20, 30:-30].mean() > 0.8
    assert footage.moving[1].mean() > 0.8
    assert not footage.known[0].any()


def test_a_missing_mask_is_named(tmp_path: Path, runner: OnnxRuntimeCpuRunner) -> None:
    folder = write_sequence(tmp_path / "pan")
    (folder / "masks/0002.png").unlink()
    with pytest.raises(DataError, match=r"0002\.png is missing"):
        from_real(folder, runner)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither"):
        find_real(tmp_path)
