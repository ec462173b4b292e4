import cv2
import numpy as np
import pytest

from humanseg.vision.arrays import Alpha8, Picture, Size
from humanseg.vision.composite import blurred_room, compose, cover, person_color, solid

SIZE = Size(320, 180)
SKIN, WALL, NEW = (190.0, 140.0, 120.0), (20.0, 220.0, 40.0), (0, 0, 255)


def scene(texture: float = 0.0) -> tuple[Picture, Alpha8, Picture]:
    """A disc of one color before a wall of another, mixed by a soft edge: frame, alpha, and the true person."""
    rows, columns = np.mgrid[0 : SIZE.height, 0 : SIZE.width].astype(np.float32)
    distance = np.hypot(columns - SIZE.width / 2, rows - SIZE.height / 2)
    alpha = np.clip((60 - distance) / 8 + 0.5, 0, 1)
    ripple = texture * np.sin(columns / 9) * np.cos(rows / 7)
    person = np.float32(SKIN)[None, None] + ripple[:, :, None]
    wall = np.float32(WALL)[None, None] + 0 * ripple[:, :, None]
    frame = alpha[:, :, None] * person + (1 - alpha)[:, :, None] * wall
    return np.rint(frame).astype(np.uint8), np.rint(alpha * 255).astype(np.uint8), np.rint(person).astype(np.uint8)


@pytest.mark.parametrize("texture", [0.0, 12.0])
def test_no_rim_of_the_old_room(texture: float) -> None:
    frame, alpha8, person = scene(texture)
    composed = compose(frame, alpha8, solid(SIZE, NEW)).astype(float)
    alpha = (alpha8.astype(float) / 255)[:, :, None]
    wanted = alpha * person + (1 - alpha) * np.array(NEW)
    naive = alpha * frame + (1 - alpha) * np.array(NEW)
    soft = (alpha8 > 0) & (alpha8 < 255)
    error = np.abs(composed - wanted)[soft].mean()
    assert error < 0.25 * np.abs(naive - wanted)[soft].mean()
    # The wall is green and the person and the new background are not: green beyond them would be the rim.
    assert error < 4


def test_values_are_rounded_not_cut_off() -> None:
    """Person and background alike but for one level: a cut off sum would lose a level nearly everywhere."""
    _, alpha8, _ = scene()
    composed = compose(solid(SIZE, (101, 101, 101)), alpha8, solid(SIZE, (100, 100, 100)))
    wanted = 100 + (alpha8 >= 128)
    soft = (alpha8 > 0) & (alpha8 < 255)
    assert (composed[soft] == wanted[soft][:, None]).mean() > 0.99


def test_the_person_does_not_glow_into_the_blurred_room() -> None:
    frame, alpha8, _ = scene()
    room = blurred_room(frame, alpha8).astype(float)
    outside = alpha8 == 0
    assert np.abs(room[outside] - np.array(WALL)).max() < 6
    plain = cv2.GaussianBlur(frame, (0, 0), 0.036 * SIZE.height).astype(float)
    assert np.abs(plain[outside] - np.array(WALL)).max() > 40


def test_the_blur_has_the_width_that_was_asked_for() -> None:
    """Against OpenCV's Gaussian at full size, where there is no person; the height is what the width belongs to."""
    rng = np.random.default_rng(3)
    for size in (Size(320, 180), Size(640, 360)):
        coarse = rng.integers(0, 256, (9, 16, 3), np.uint8)
        frame = np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR))
        wanted = cv2.GaussianBlur(frame, (0, 0), 0.05 * size.height).astype(float)
        seen = blurred_room(frame, np.zeros(size.shape, np.uint8), 0.05).astype(float)
        inner = (slice(size.height // 6, -size.height // 6), slice(size.width // 6, -size.width // 6))
        assert np.abs(seen - wanted)[inner].mean() < 1.5
        assert np.abs(frame - wanted)[inner].mean() > 8


def test_a_frame_full_of_person_has_no_dark_room() -> None:
    frame = solid(SIZE, (200, 180, 160))
    assert (blurred_room(frame, np.full(SIZE.shape, 254, np.uint8)) == frame).all()


def test_the_borders_are_not_darker() -> None:
    frame, alpha8 = solid(SIZE, (200, 200, 200)), scene()[1]
    alpha8[0], alpha8[:, 0] = 128, 77
    assert (compose(frame, alpha8, blurred_room(frame, alpha8)) == 200).all()


def test_color_of_the_person_is_found_inside_and_at_the_edge() -> None:
    frame, alpha8, person = scene()
    found = person_color(frame, alpha8.astype(np.float32) / np.float32(255))
    there = alpha8 >= 64
    assert np.abs(found[there] - person[there]).mean() < 3


def test_a_picture_covers_and_keeps_its_middle() -> None:
    wide = np.zeros((40, 200, 3), np.uint8)
    wide[:, 80:120] = 255
    assert (cover(wide, Size(80, 80)) == 255).mean() > 0.9
    assert cover(wide, Size(33, 57)).shape == (57, 33, 3)


def test_sizes_must_agree() -> None:
    frame, alpha8, _ = scene()
    with pytest.raises(ValueError, match="frame 320x180, alpha 320x180 and background 10x10 must be of one size"):
        compose(frame, alpha8, solid(Size(10, 10), NEW))
    with pytest.raises(ValueError, match="alpha 100x180"):
        blurred_room(frame, alpha8[:, :100])
