"""What the sessions send: the right number of bytes, moving, and without a cut where the loop begins again."""

from itertools import islice, pairwise
from pathlib import Path

import pytest

from benchmarks.footage import LIMIT_BYTES, bounce, load
from humanseg.frames import PixelFormat, frame_bytes
from humanseg.video import VideoError
from humanseg.vision.arrays import Size
from humanseg.vision.decode import picture_size


@pytest.mark.parametrize("pixel_format", [PixelFormat.I420, PixelFormat.RGB24])
@pytest.mark.parametrize("size", [Size(64, 36), Size(35, 21)])
def test_raw_footage_has_the_bytes_of_its_format_and_moves(pixel_format: PixelFormat, size: Size) -> None:
    frames = load(None, size, pixel_format)
    assert {len(frame) for frame in frames} == {frame_bytes(pixel_format, size)}
    assert len(frames) > 30
    assert all(before != after for before, after in pairwise(frames))


def test_jpeg_footage_has_the_size_asked_for() -> None:
    frames = load(None, Size(64, 36), PixelFormat.JPEG)
    assert {picture_size(frame, exif=False) for frame in frames} == {Size(64, 36)}


def test_footage_is_kept_within_its_limit_however_large_the_frames_are() -> None:
    size = Size(1920, 1080)
    frames = load(None, size, PixelFormat.RGB24)
    assert frame_bytes(PixelFormat.RGB24, size) <= sum(len(frame) for frame in frames) <= LIMIT_BYTES


def test_bouncing_goes_forth_and_back_without_showing_an_end_twice() -> None:
    frames = [b"a", b"b", b"c", b"d"]
    assert b"".join(islice(bounce(frames, 0), 13)) == b"abcdcbabcdcba"
    assert b"".join(islice(bounce(frames, 5), 5)) == b"babcd"
    assert b"".join(islice(bounce([b"a"], 3), 3)) == b"aaa"


def test_a_clip_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    clip = tmp_path / "broken.mp4"
    clip.write_bytes(b"not a video")
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        load(str(clip), Size(64, 36), PixelFormat.I420)
