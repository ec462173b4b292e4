import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from humanseg.video import VideoError, VideoReader, VideoWriter, read_rgb
from humanseg.vision.arrays import Picture
from humanseg.vision.orientation import Rotation, to_upright

FPS = Fraction(30000, 1001)


def quarters(width: int, height: int) -> Picture:
    """Another color in each corner, so that every turn and flip can be told apart."""
    picture = np.zeros((height, width, 3), np.uint8)
    # The border lies between two pixels of the halved chroma.
    down, right = height // 4 * 2, width // 4 * 2
    picture[:down, :right] = (220, 30, 30)
    picture[:down, right:] = (30, 220, 30)
    picture[down:, :right] = (30, 30, 220)
    picture[down:, right:] = (200, 200, 200)
    return picture


def write(path: Path, pictures: list[Picture], fps: Fraction = FPS) -> Path:
    with VideoWriter(path, fps) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


def assert_close(seen: Picture, wanted: Picture) -> None:
    assert seen.shape == wanted.shape
    assert float(np.abs(seen.astype(int) - wanted.astype(int)).mean()) < 3


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    pictures = [np.full((48, 64, 3), (level, 255 - level, 90), np.uint8) for level in range(0, 250, 25)]
    path = write(tmp_path / "a.mp4", pictures)
    with VideoReader(path) as reader:
        assert reader.info.fps == FPS
        assert reader.info.frame_count == len(pictures)
        frames = list(reader)
    for frame, wanted in zip(frames, pictures, strict=True):
        assert_close(frame.picture, wanted)
    assert [frame.capture_time_us for frame in frames] == [round(n / FPS * 1_000_000) for n in range(len(pictures))]


def test_it_plays_in_browsers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [quarters(64, 48)] * 3)
    with av.open(path) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.colorspace) == ("h264", "yuv420p", 1)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_an_odd_picture_repeats_its_last_row_and_column(tmp_path: Path) -> None:
    picture = quarters(63, 47)
    (seen,) = read_rgb(write(tmp_path / "a.mp4", [picture]))
    assert_close(seen, np.pad(picture, ((0, 1), (0, 1), (0, 0)), mode="edge"))


def test_times_of_uneven_frames_are_kept(tmp_path: Path) -> None:
    times_us = [5_000_000, 5_040_000, 5_200_000, 5_210_000]
    with VideoWriter(tmp_path / "a.mp4", FPS) as writer:
        for time_us in times_us:
            writer.write(quarters(64, 48), time_us)
    with VideoReader(tmp_path / "a.mp4") as reader:
        seen = [frame.capture_time_us for frame in reader]
    assert np.allclose(np.diff(seen), np.diff(times_us), atol=20)


@pytest.mark.parametrize("rotation", list(Rotation))
@pytest.mark.parametrize("mirrored", [False, True])
def test_pictures_come_upright(tmp_path: Path, rotation: Rotation, mirrored: bool) -> None:
    stored = quarters(64, 48)
    path = tmp_path / "turned.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        # FFmpeg counts degrees counterclockwise.
        stream.set_display_rotation(-int(rotation), hflip=mirrored)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    (seen,) = read_rgb(path)
    assert_close(seen, to_upright(stored, rotation, mirrored))


def test_nothing_is_left_of_a_video_that_was_given_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "a.mp4", FPS) as writer:
        writer.write(quarters(64, 48))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rewrite_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [quarters(64, 48)])
    before = path.read_bytes()
    with pytest.raises(VideoError, match="a frame of 48x64 in a video that began with 64x48"):
        write(path, [quarters(64, 48), quarters(48, 64)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_without_frames_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no frame was written"):
        write(tmp_path / "a.mp4", [])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.mp4"
    with pytest.raises(VideoError, match=re.escape(f"{path}: no such file or directory")):
        write(path, [quarters(64, 48)])


def test_unreadable_files_are_named_with_the_reason(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video at all")
    with pytest.raises(VideoError, match=re.escape(f"{text}: invalid data")):
        list(read_rgb(text))
    with pytest.raises(VideoError, match=re.escape(f"{tmp_path}: is a directory")):
        list(read_rgb(tmp_path))
    missing = tmp_path / "missing.mp4"
    with pytest.raises(VideoError, match=re.escape(f"{missing}: no such file")):
        list(read_rgb(missing))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="holds no video"):
        list(read_rgb(path))


def test_a_file_cut_short_says_so_after_its_good_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = write(tmp_path / "a.mp4", [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(30)])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    good = 0
    with pytest.raises(VideoError, match=r"breaks off after (\d+) frames: the file is cut short") as caught:
        for _ in read_rgb(path):
            good += 1
    assert f"after {good} frames" in str(caught.value)
    assert 0 < good < 30
