"""Moving pictures drawn in code, with the mask that is true for each frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.vision.arrays import Picture, Size

SIZE = Size(160, 96)
FRAME_US = 33_333


@dataclass(frozen=True)
class DrawnFrame:
    gray: NDArray[np.uint8]
    truth: NDArray[np.float32]
    """The exact mask."""
    noisy: NDArray[np.float32]
    """What a network might say: the truth with its edge displaced at random, from frame to frame."""
    capture_time_us: int


def texture(size: Size, seed: int) -> NDArray[np.float32]:
    """Smooth random gray, 40..215: something for the optical flow to hold on to."""
    rough = np.random.default_rng(seed).normal(0, 1, size.shape).astype(np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), 2.5)
    return np.asarray(cv2.normalize(smooth, None, 40, 215, cv2.NORM_MINMAX), np.float32)  # type: ignore[call-overload]


def disc(size: Size, center: tuple[float, float], radius: float) -> NDArray[np.float32]:
    """A person as simple as can be: 1 inside, 0 outside, an edge two pixels wide."""
    y, x = np.mgrid[: size.height, : size.width]
    distance = np.hypot(x - center[0], y - center[1])
    return np.clip((radius - distance) / 2 + 0.5, 0, 1).astype(np.float32)


def draw_clip(
    *,
    shifts_px: Sequence[float],
    size: Size = SIZE,
    seed: int = 1,
    edge_noise: float = 0.35,
    sensor_noise: float = 2.0,
    wall_moves: bool = False,
) -> list[DrawnFrame]:
    """A textured disc before a textured wall; in frame i it stands ``shifts_px[i]`` to the right of the first place.

    ``wall_moves``: the camera pans, so that the wall goes with it.
    """
    random = np.random.default_rng(seed)
    wide = Size(2 * size.width, size.height)
    wall, cloth = texture(wide, seed + 100), texture(wide, seed + 200)
    frames = []
    for index, shift_px in enumerate(shifts_px):
        truth = disc(size, (size.width * 0.4 + shift_px, size.height * 0.5), size.height * 0.3)
        behind = _shifted(wall, shift_px if wall_moves else 0.0, size)
        before = _shifted(cloth, shift_px, size)
        gray = behind * (1 - truth) + before * truth + random.normal(0, sensor_noise, size.shape)
        in_edge = 4 * truth * (1 - truth)
        rough = cv2.GaussianBlur(random.normal(0, 1, size.shape).astype(np.float32), (0, 0), 1.5)
        noisy = truth + edge_noise * (in_edge + 0.1) * rough / rough.std()
        frames.append(
            DrawnFrame(
                np.clip(np.rint(gray), 0, 255).astype(np.uint8),
                truth,
                np.clip(noisy, 0, 1).astype(np.float32),
                index * FRAME_US + 1,
            )
        )
    return frames


def _shifted(picture: NDArray[np.float32], shift_px: float, size: Size) -> NDArray[np.float32]:
    """The middle of a picture of twice the width, moved to the right by fractions of a pixel."""
    matrix = np.array([[1, 0, shift_px - size.width / 2], [0, 1, 0]], np.float32)
    moved = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, np.float32)


def trembling_pictures(count: int, size: Size) -> list[Picture]:
    """RGB whose red is a mask that trembles from frame to frame, so that the fusion has something to do."""
    frames = draw_clip(shifts_px=[0.6 * index for index in range(count)], size=size)
    return [np.dstack([np.rint(255 * frame.noisy).astype(np.uint8), frame.gray, frame.gray]) for frame in frames]
