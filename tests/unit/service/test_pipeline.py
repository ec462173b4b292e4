"""prepare and finish around a model whose alpha is the red channel: the mask must lie where the picture is red."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.registry import DEFAULT_ENGINE, open_runner
from engines.runner import Runner
from humanseg.frames import FrameError, PixelFormat, RawFrame, pack_planes
from humanseg.masks import MaskEncoding, decode_mask
from humanseg.options import Estimates, People, TemporalFusion
from humanseg.vision import color
from humanseg.vision.arrays import Size
from humanseg.vision.decode import DecodeError, TooLargeError
from humanseg.vision.orientation import Rotation
from humanseg.vision.temporal import ResetReason
from service.pipeline import EncodedMask, FusionMemory, PictureTask, estimate, finish, prepare
from service.stages import StageClock
from service.stream_config import SizeLimits
from support.models import LANDSCAPE, UPRIGHT, write_red_model

LIMITS = SizeLimits(max_frame_bytes=6_220_800, max_frame_px=1920 * 1080, max_side_px=4096)
RAW = [PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    path = write_red_model(tmp_path_factory.mktemp("models") / "red.onnx")
    return open_runner(DEFAULT_ENGINE, path, max_batch=8, concurrency=1)


def red_corner(size: Size) -> NDArray[np.uint8]:
    """RGB, the upper left quarter white and the rest black: white is red in all formats alike."""
    picture = np.zeros((*size.shape, 3), np.uint8)
    picture[: size.height // 2, : size.width // 2] = 255
    return picture


def as_sent(picture_rgb: NDArray[np.uint8], pixel_format: PixelFormat) -> bytes:
    size = Size.of(picture_rgb)
    match pixel_format:
        case PixelFormat.RGB24:
            return picture_rgb.tobytes()
        case PixelFormat.BGR24:
            return np.ascontiguousarray(picture_rgb[..., ::-1]).tobytes()
        case PixelFormat.I420:
            return pack_planes(RawFrame(size, pixel_format, color.rgb_to_i420(picture_rgb)))
        case PixelFormat.NV12:
            return pack_planes(RawFrame(size, pixel_format, color.rgb_to_nv12(picture_rgb)))
        case PixelFormat.JPEG | PixelFormat.PNG:
            ok, data = cv2.imencode(f".{pixel_format.value}", picture_rgb[..., ::-1])
            assert ok
            return data.tobytes()


def task_for(picture: bytes, pixel_format: PixelFormat, size: Size | None, **changes: object) -> PictureTask:
    fields: dict[str, object] = {
        "rotation": Rotation.DEG_0, "mirrored": False, "encoding": MaskEncoding.ALPHA8, "mask_size": None,
        "fusion": TemporalFusion.OFF, "estimates": Estimates.OFF, "capture_time_us": 1, "exif": False, **changes,
    }  # fmt: skip
    return PictureTask(picture, pixel_format, size, **fields)  # type: ignore[arg-type]


def segment(runner: Runner, task: PictureTask, memory: FusionMemory | None = None) -> tuple[EncodedMask, StageClock]:
    clock = StageClock(0)
    prepared = prepare(task, runner.info.model, LIMITS, clock)
    alpha = runner.run(prepared.network_input[None])[0]
    return finish(task, runner.info.model, prepared, alpha, memory or FusionMemory(), clock), clock


def estimate_of(runner: Runner, task: PictureTask, memory: FusionMemory) -> tuple[EncodedMask | None, StageClock]:
    clock = StageClock(0)
    return estimate(task, runner.info.model, prepare(task, runner.info.model, LIMITS, clock), memory, clock), clock


def mask_of(encoded: EncodedMask) -> NDArray[np.uint8]:
    return decode_mask(encoded.payload, encoded.encoding, encoded.size)


def assert_lies_on(mask: NDArray[np.uint8], picture_rgb: NDArray[np.uint8]) -> None:
    """The mask agrees with the picture's red channel, but for the soft edge; whatever size it has."""
    size = Size.of(mask)
    wanted = cv2.resize(picture_rgb[..., 0], size, interpolation=cv2.INTER_AREA)
    assert np.mean(np.abs(mask.astype(int) - wanted) > 100) < 0.04
    assert mask[size.height // 4, size.width // 4] > 240
    for row, column in ((3, 1), (1, 3), (3, 3)):
        assert mask[row * size.height // 4, column * size.width // 4] < 15


@pytest.mark.parametrize("mask_size", [None, Size(320, 180), Size(64, 100)], ids=str)
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", list(Rotation))
@pytest.mark.parametrize("size", [Size(320, 180), Size(180, 320), Size(201, 151)], ids=str)
def test_the_mask_comes_back_onto_the_picture_as_it_was_sent(
    runner: Runner, size: Size, rotation: Rotation, mirrored: bool, mask_size: Size | None
) -> None:
    picture = red_corner(size)
    task = task_for(
        picture.tobytes(), PixelFormat.RGB24, size, rotation=rotation, mirrored=mirrored, mask_size=mask_size
    )
    encoded, _ = segment(runner, task)
    assert encoded.size == (mask_size or size)
    assert_lies_on(mask_of(encoded), picture)


@pytest.mark.parametrize("encoding", list(MaskEncoding))
@pytest.mark.parametrize("pixel_format", [*RAW, PixelFormat.JPEG, PixelFormat.PNG])
def test_every_format_and_encoding(runner: Runner, pixel_format: PixelFormat, encoding: MaskEncoding) -> None:
    picture = red_corner(Size(321, 181))
    task = task_for(
        as_sent(picture, pixel_format), pixel_format, Size(321, 181), encoding=encoding, rotation=Rotation.DEG_90
    )
    encoded, clock = segment(runner, task)
    assert encoded.encoding is encoding
    assert_lies_on(mask_of(encoded), picture)
    compressed = {"decode"} if pixel_format.compressed else set()
    assert set(clock.wall_ns) == set(clock.cpu_ns) == {"preprocess", "postprocess", "encode"} | compressed


@pytest.mark.parametrize("size", [Size(1920, 1080), Size(1080, 1920), Size(321, 181), Size(40, 30)], ids=str)
def test_a_jpeg_decoded_at_a_fraction_lies_just_as_the_whole_one(runner: Runner, size: Size) -> None:
    picture = red_corner(size)
    file = as_sent(picture, PixelFormat.JPEG)
    stream, _ = segment(runner, task_for(file, PixelFormat.JPEG, size))
    still, _ = segment(runner, task_for(file, PixelFormat.JPEG, None, exif=True))
    raw, _ = segment(runner, task_for(picture.tobytes(), PixelFormat.RGB24, size))
    for encoded in (stream, still, raw):
        assert encoded.size == size
        assert_lies_on(mask_of(encoded), picture)
    assert np.mean(np.abs(mask_of(stream).astype(int) - mask_of(raw))) < 2


def test_landscape_and_upright_pictures_use_the_better_canvas(runner: Runner) -> None:
    for size, canvas in ((Size(320, 180), LANDSCAPE), (Size(180, 320), UPRIGHT)):
        for rotation in (Rotation.DEG_0, Rotation.DEG_90):
            task = task_for(red_corner(size).tobytes(), PixelFormat.RGB24, size, rotation=rotation)
            prepared = prepare(task, runner.info.model, LIMITS, StageClock(0))
            wanted = canvas if rotation is Rotation.DEG_0 else canvas.transposed
            assert Size.of(prepared.network_input) == wanted == prepared.placement.canvas


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"rotation": Rotation.DEG_180}, ResetReason.ROTATION),
        ({"mirrored": True}, ResetReason.ROTATION),
        ({"capture_time_us": 1}, ResetReason.TIME),
        ({"mask_size": Size(10, 10)}, None),
        ({"fusion": TemporalFusion.LOW}, None),
    ],
)
def test_memory_that_no_longer_fits_is_given_up(
    runner: Runner, changes: dict[str, object], reason: ResetReason | None
) -> None:
    size = Size(320, 180)
    before, after = (np.full((*size.shape, 3), level, np.uint8).tobytes() for level in (100, 115))
    memory = FusionMemory()
    first, clock = segment(runner, task_for(before, PixelFormat.RGB24, size, fusion=TemporalFusion.HIGH), memory)
    assert first.reset is ResetReason.FIRST_FRAME
    assert "fusion" in clock.cpu_ns
    changes = {"fusion": TemporalFusion.HIGH, "capture_time_us": 33_000, **changes}
    second, _ = segment(runner, task_for(after, PixelFormat.RGB24, size, **changes), memory)
    assert second.reset is reason
    # A picture of one level all over: its mask says whether the past still weighs in.
    assert (set(second.payload) == {115}) == (reason is not None)


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (Size(640, 360), None),
        (Size(160, 90), None),
        (Size(320, 200), ResetReason.SIZE),
        (Size(180, 320), ResetReason.SIZE),
    ],
)
def test_a_simulcast_layer_of_the_same_shape_keeps_the_memory(
    runner: Runner, size: Size, reason: ResetReason | None
) -> None:
    memory = FusionMemory()
    for index, frame_size in enumerate((Size(320, 180), size)):
        picture = red_corner(frame_size).tobytes()
        task = task_for(
            picture, PixelFormat.RGB24, frame_size, fusion=TemporalFusion.HIGH, capture_time_us=33_000 * index
        )
        encoded, _ = segment(runner, task, memory)
    assert encoded.reset is reason


def test_fusion_switched_off_and_on_begins_anew(runner: Runner) -> None:
    memory, size = FusionMemory(), Size(320, 180)
    seen = []
    for index, fusion in enumerate([TemporalFusion.HIGH, TemporalFusion.OFF, TemporalFusion.HIGH]):
        task = task_for(
            red_corner(size).tobytes(), PixelFormat.RGB24, size, fusion=fusion, capture_time_us=33_000 * index
        )
        seen.append(segment(runner, task, memory)[0].reset)
    assert seen == [ResetReason.FIRST_FRAME, None, ResetReason.FIRST_FRAME]


def test_another_model_resets(runner: Runner, tmp_path: Path) -> None:
    other = open_runner(DEFAULT_ENGINE, write_red_model(tmp_path / "o.onnx", name="other"), max_batch=1, concurrency=1)
    memory, size = FusionMemory(), Size(320, 180)
    before, after = (np.full((*size.shape, 3), level, np.uint8).tobytes() for level in (100, 115))
    segment(runner, task_for(before, PixelFormat.RGB24, size, fusion=TemporalFusion.HIGH), memory)
    later = task_for(after, PixelFormat.RGB24, size, fusion=TemporalFusion.HIGH, capture_time_us=2)
    encoded, _ = segment(other, later, memory)
    assert encoded.reset is ResetReason.MODEL
    assert set(encoded.payload) == {115}, "nothing of the other model's masks is left"


@pytest.mark.parametrize("fusion", list(TemporalFusion))
@pytest.mark.parametrize("rotation", [Rotation.DEG_0, Rotation.DEG_90])
def test_an_estimate_lies_on_its_own_picture(runner: Runner, fusion: TemporalFusion, rotation: Rotation) -> None:
    """Also while fusion is OFF; of the size asked for, and without the engine."""
    size = Size(320, 180) if rotation is Rotation.DEG_0 else Size(180, 320)
    picture = red_corner(size)
    moved = np.roll(picture, 6, axis=1)
    memory = FusionMemory()
    changes = {"fusion": fusion, "estimates": Estimates.SUPERSEDED, "rotation": rotation}
    segment(runner, task_for(picture.tobytes(), PixelFormat.RGB24, size, **changes), memory)
    later = task_for(
        moved.tobytes(), PixelFormat.RGB24, size, capture_time_us=66_000, mask_size=Size(160, 100), **changes
    )
    encoded, clock = estimate_of(runner, later, memory)
    assert encoded is not None
    assert (encoded.size, encoded.reset) == ((160, 100), None)
    assert_lies_on(mask_of(encoded), moved)
    assert set(clock.wall_ns) == {"preprocess", "fusion", "postprocess", "encode"}


@pytest.mark.parametrize(
    "changes",
    [
        {"rotation": Rotation.DEG_180},
        {"mirrored": True},
        {"capture_time_us": 1},
        {"capture_time_us": 500_002},
    ],
)
def test_an_estimate_needs_a_memory_that_fits(runner: Runner, changes: dict[str, object], tmp_path: Path) -> None:
    size = Size(320, 180)
    picture = red_corner(size).tobytes()
    fields: dict[str, object] = {"fusion": TemporalFusion.HIGH, "estimates": Estimates.SUPERSEDED}
    memory = FusionMemory()
    good = task_for(picture, PixelFormat.RGB24, size, capture_time_us=33_000, **fields)
    assert estimate_of(runner, good, memory)[0] is None, "there was no frame before it"
    segment(runner, task_for(picture, PixelFormat.RGB24, size, **fields), memory)
    bad = task_for(picture, PixelFormat.RGB24, size, **{"capture_time_us": 33_000, **fields, **changes})
    assert estimate_of(runner, bad, memory)[0] is None
    other = open_runner(DEFAULT_ENGINE, write_red_model(tmp_path / "o.onnx", name="other"), max_batch=1, concurrency=1)
    assert estimate_of(other, good, memory)[0] is None, "another model's mask"
    tall = task_for(red_corner(Size(320, 200)).tobytes(), PixelFormat.RGB24, Size(320, 200), **fields)
    assert estimate_of(runner, tall, memory)[0] is None, "another shape"
    assert estimate_of(runner, good, memory)[0] is not None, "what did not fit has changed nothing"


def test_a_mask_kept_for_estimates_is_no_past_for_fusion(runner: Runner) -> None:
    """OFF with estimates, then HIGH: the first fused frame is the first, as it is without estimates."""
    size = Size(320, 180)
    before, after = (np.full((*size.shape, 3), level, np.uint8).tobytes() for level in (100, 115))
    memory = FusionMemory()
    kept = task_for(before, PixelFormat.RGB24, size, estimates=Estimates.SUPERSEDED)
    assert segment(runner, kept, memory)[0].reset is None
    fused = task_for(after, PixelFormat.RGB24, size, fusion=TemporalFusion.HIGH, capture_time_us=33_000)
    encoded, _ = segment(runner, fused, memory)
    assert encoded.reset is ResetReason.FIRST_FRAME
    assert set(encoded.payload) == {115}
    again = task_for(before, PixelFormat.RGB24, size, fusion=TemporalFusion.HIGH, capture_time_us=66_000)
    assert segment(runner, again, memory)[0].reset is None


@pytest.mark.parametrize(
    ("task", "error", "text"),
    [
        (task_for(bytes(10), PixelFormat.RGB24, Size(2, 2)), FrameError, "10 bytes for RGB24 2x2, expected 12"),
        (task_for(b"junk", PixelFormat.JPEG, Size(2, 2)), DecodeError, "neither JPEG nor PNG"),
        (
            task_for(as_sent(red_corner(Size(20, 10)), PixelFormat.JPEG), PixelFormat.JPEG, Size(10, 20)),
            DecodeError,
            "the JPEG is 20x10, declared was 10x20",
        ),
        (
            task_for(as_sent(red_corner(Size(4097, 1)), PixelFormat.PNG), PixelFormat.PNG, None, exif=True),
            TooLargeError,
            "4097x1",
        ),
    ],
)
def test_a_picture_that_is_not_what_it_is_said_to_be(
    runner: Runner, task: PictureTask, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        prepare(task, runner.info.model, LIMITS, StageClock(0))


def red_people(size: Size, *columns: tuple[int, int]) -> bytes:
    """RGB, people as red blocks between these columns, before black: too dark for a cut."""
    picture = np.zeros((*size.shape, 3), np.uint8)
    for left, right in columns:
        picture[60:120, left:right, 0] = 255
    return picture.tobytes()


@pytest.mark.parametrize("fusion", [TemporalFusion.OFF, TemporalFusion.HIGH])
@pytest.mark.parametrize(
    ("changes", "is_kept"),
    [
        ({}, True),
        ({"capture_time_us": 600_000}, False),
        ({"capture_time_us": 1}, False),
        ({"mirrored": True}, False),
        ({"rotation": Rotation.DEG_180}, False),
        ({"size": Size(320, 200)}, False),
    ],
)
def test_the_main_person_stays_as_long_as_the_memory_does(
    runner: Runner, fusion: TemporalFusion, changes: dict[str, object], is_kept: bool
) -> None:
    """Somebody who counts much more comes in: he takes the part at once only where everything begins anew."""
    memory, first = FusionMemory(), Size(320, 180)
    fields: dict[str, object] = {"fusion": fusion, "people": People.MAIN}
    task = task_for(red_people(first, (40, 70)), PixelFormat.RGB24, first, **fields)
    assert mask_of(segment(runner, task, memory)[0])[90, 60] == 255
    later: dict[str, object] = {"capture_time_us": 33_000, **changes}
    size = later.pop("size", first)
    assert isinstance(size, Size)
    task = task_for(red_people(size, (40, 70), (130, 190)), PixelFormat.RGB24, size, **fields, **later)
    mask = mask_of(segment(runner, task, memory)[0])
    assert bool(mask[90, 60]) == is_kept
    assert bool(mask[90, 165]) != is_kept


def test_the_main_person_is_found_within_the_stage_of_fusion(runner: Runner) -> None:
    size = Size(320, 180)
    task = task_for(red_people(size, (40, 70)), PixelFormat.RGB24, size, people=People.MAIN)
    assert "fusion" in segment(runner, task)[1].cpu_ns
