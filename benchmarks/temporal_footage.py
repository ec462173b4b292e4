"""What fusion is measured on: sequences with the network's raw masks, segmented once, for every alternative alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.runner import Runner
from humanseg.video import VideoReader
from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, BoolMask, Picture, Plane, Size
from humanseg.vision.letterbox import Placement, choose_canvas, letterbox
from humanseg.vision.temporal_metrics import carried, from_inside
from train.clips import ClipFrame
from train.data import DataError

#: Of long clips only the beginning is measured.
MOST_FRAMES = 90
#: A sequence of pictures does not say how fast it was; DAVIS is published at 24.
SEQUENCE_FPS = 24
#: Estimated motion counts where there and back again ends within this distance, and as motion from this length on.
_LOST_PX, _MOVING_PX = 1.0, 0.3
#: The finest flow there is: judging may cost more than what is judged.
_FINEST_SCALE = 0


@dataclass(frozen=True, slots=True)
class Footage:
    """A sequence, frame by frame.

    Attributes:
        group: what its figures are averaged with, for example ``talk 30 fps``.
        name: of this sequence alone.
        pictures: (H, W, 3) uint8 RGB.
        placement: where the pictures lie on the network's canvas.
        grays, raws: the canvas' inner part, (h, w) uint8 and float32: input in gray and mask.
        truths: (H, W) float32; None where nobody annotated.
        motions, known, moving, cuts: as `temporal_metrics` and `ClipFrame` have them, at picture size.
        times_us: capture times.
    """

    group: str
    name: str
    pictures: list[Picture]
    placement: Placement
    grays: list[Plane]
    raws: list[Alpha]
    truths: list[Alpha] | None
    motions: list[NDArray[np.float32]]
    known: list[BoolMask]
    moving: list[BoolMask]
    cuts: list[bool]
    times_us: list[int]
    is_exact: bool
    """Whether truths and motions are known, and not annotated and estimated."""


def from_clip(group: str, name: str, frames: Sequence[ClipFrame], runner: Runner) -> Footage:
    """A synthetic clip: everything about it is exact."""
    pictures = [frame.picture for frame in frames]
    placement, grays, raws = _segment(pictures, runner)
    return Footage(
        group,
        name,
        pictures,
        placement,
        grays,
        raws,
        [frame.alpha for frame in frames],
        [frame.motion for frame in frames],
        [frame.followed for frame in frames],
        [frame.moving for frame in frames],
        [frame.is_cut for frame in frames],
        [frame.time_us for frame in frames],
        is_exact=True,
    )


def find_real(videos: Path) -> list[Path]:
    """Folders with ``frames`` and ``masks``, then video files.

    Raises:
        DataError: there is neither.
    """
    folders = sorted(path.parent for path in videos.glob("*/frames") if (path.parent / "masks").is_dir())
    found = [*folders, *sorted(videos.glob("*.mp4"))]
    if not found:
        raise DataError(f"{videos} holds neither NAME/frames with NAME/masks nor NAME.mp4")
    return found


def from_real(path: Path, runner: Runner) -> Footage:
    """A sequence that `find_real` found; its motion is estimated, and there is truth for folders only.

    Raises:
        DataError: a frame or a mask cannot be read.
        VideoError: nor the video.
    """
    truths: list[Alpha] | None = None
    if path.is_dir():
        pictures, truths = _read_folder(path)
        times_us = [round(number * 1e6 / SEQUENCE_FPS) for number in range(len(pictures))]
    else:
        pictures, times_us = [], []
        with VideoReader(path) as reader:
            for frame in reader:
                pictures.append(frame.picture)
                times_us.append(frame.capture_time_us)
                if len(pictures) == MOST_FRAMES:
                    break
    placement, grays, raws = _segment(pictures, runner)
    motions, known, moving = zip(*_estimate_motion(pictures), strict=True)
    return Footage(
        f"{path.stem} (real)",
        path.stem,
        pictures,
        placement,
        grays,
        raws,
        truths,
        list(motions),
        list(known),
        list(moving),
        [False] * len(pictures),
        times_us,
        is_exact=False,
    )


def _read_folder(path: Path) -> tuple[list[Picture], list[Alpha]]:
    pictures: list[Picture] = []
    truths: list[Alpha] = []
    for image in sorted((path / "frames").iterdir())[:MOST_FRAMES]:
        mask = path / "masks" / f"{image.stem}.png"
        picture = cv.decode_rgb(np.frombuffer(image.read_bytes(), np.uint8))
        truth = cv.read_gray(np.frombuffer(mask.read_bytes(), np.uint8)) if mask.is_file() else None
        if picture is None or truth is None or truth.shape != picture.shape[:2]:
            raise DataError(f"{image} cannot be decoded, or {mask} is missing, broken or of another size")
        pictures.append(picture)
        truths.append((truth > 127).astype(np.float32))
    return pictures, truths


def _segment(pictures: Sequence[Picture], runner: Runner) -> tuple[Placement, list[Plane], list[Alpha]]:
    """As the service does it: letterbox, network; the void is cut off."""
    model = runner.info.model
    canvas = choose_canvas(Size.of(pictures[0]), model.landscape, model.upright)
    grays: list[Plane] = []
    raws: list[Alpha] = []
    placement = Placement.fit(Size.of(pictures[0]), canvas)
    for picture in pictures:
        network_input, placement = letterbox(picture, canvas)
        alpha = runner.run(network_input[np.newaxis])[0]
        grays.append(np.ascontiguousarray(placement.crop(cv.rgb_to_gray(network_input))))
        raws.append(np.ascontiguousarray(placement.crop(alpha)))
    return placement, grays, raws


def _estimate_motion(pictures: Sequence[Picture]) -> Iterator[tuple[NDArray[np.float32], BoolMask, BoolMask]]:
    """Motion, where it holds, and where there is any, a frame; all True as moving for the first."""
    shape = pictures[0].shape[:2]
    yield np.zeros((*shape, 2), np.float32), np.zeros(shape, np.bool_), np.ones(shape, np.bool_)
    before = cv.rgb_to_gray(pictures[0])
    for picture in pictures[1:]:
        gray = cv.rgb_to_gray(picture)
        motion = cv.dis_flow(gray, before, _FINEST_SCALE)
        back = cv.dis_flow(before, gray, _FINEST_SCALE)
        there_and_back = [motion[:, :, axis] + carried(back[:, :, axis].copy(), motion) for axis in (0, 1)]
        known = from_inside(motion) & (np.hypot(*there_and_back) < _LOST_PX)
        yield motion, known, ~known | (np.hypot(motion[:, :, 0], motion[:, :, 1]) > _MOVING_PX)
        before = gray
