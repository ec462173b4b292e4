"""A finished picture in the pipeline: made in `finish` alone, never of an estimate."""

import dataclasses

import numpy as np
import pytest

from engines.metadata import ModelMetadata
from humanseg.frames import PixelFormat
from humanseg.masks import MaskEncoding
from humanseg.options import Estimates, TemporalFusion
from humanseg.vision.arrays import Size
from humanseg.vision.composite_planes import Blur
from humanseg.vision.orientation import Rotation
from service.compositing import CompositePlan, RequestedComposite, Transparent, check_composite
from service.pipeline import FusionMemory, PictureTask, estimate, finish, prepare
from service.stages import StageClock
from service.stream_config import SizeLimits
from support.models import LANDSCAPE, UPRIGHT

SIZE = Size(320, 192)
LIMITS = SizeLimits(max_frame_bytes=6_220_800, max_frame_px=1920 * 1080, max_side_px=4096)
MODEL = ModelMetadata(name="medium", version="test", landscape=LANDSCAPE, upright=UPRIGHT)
ROOM = np.random.default_rng(1).integers(0, 256, (*SIZE.shape, 3), np.uint8)
GRAY = CompositePlan((90, 90, 90), PixelFormat.RGB24, 0, 80)


def task(capture_time_us: int, composite: CompositePlan | None) -> PictureTask:
    return PictureTask(
        picture=ROOM.tobytes(),
        pixel_format=PixelFormat.RGB24,
        size=SIZE,
        rotation=Rotation.DEG_0,
        mirrored=False,
        encoding=MaskEncoding.ALPHA8,
        mask_size=None,
        fusion=TemporalFusion.HIGH,
        estimates=Estimates.SUPERSEDED,
        capture_time_us=capture_time_us,
        exif=False,
        composite=composite,
    )


def test_an_estimate_is_never_made_into_a_picture() -> None:
    """Also where the stream's config forbids it already: the frame may have been queued under another one."""
    memory, first = FusionMemory(), task(1, GRAY)
    prepared = prepare(first, MODEL, LIMITS, StageClock(0))
    alpha = np.ones(LANDSCAPE.shape, np.float32)
    whole = finish(first, MODEL, prepared, alpha, memory, StageClock(0))
    assert whole.picture_format is PixelFormat.RGB24
    assert whole.payload == first.picture, "all of it is person"
    carried = estimate(task(33_334, None), MODEL, prepared, memory, StageClock(0))
    assert carried is not None, "there is a mask to carry"
    assert estimate(task(33_334, GRAY), MODEL, prepared, memory, StageClock(0)) is None


def test_a_mask_of_nobody_shows_nothing() -> None:
    nobody = task(1, GRAY)
    prepared = prepare(nobody, MODEL, LIMITS, StageClock(0))
    # A network is never quite sure.
    alpha = np.full(LANDSCAPE.shape, 0.1, np.float32)
    answer = finish(nobody, MODEL, prepared, alpha, FusionMemory(), StageClock(0))
    assert set(answer.payload) == {90}


def test_a_background_is_kept_until_the_frames_change() -> None:
    plan = dataclasses.replace(GRAY)
    prepared = prepare(task(1, plan), MODEL, LIMITS, StageClock(0))
    alpha = np.zeros(LANDSCAPE.shape, np.float32)
    first = finish(task(1, plan), MODEL, prepared, alpha, FusionMemory(), StageClock(0))
    again = finish(task(2, plan), MODEL, prepared, alpha, FusionMemory(), StageClock(0))
    assert first.payload == again.payload
    smaller = dataclasses.replace(task(3, plan), size=Size(160, 96), picture=ROOM[:96, :160].tobytes())
    answer = finish(
        smaller, MODEL, prepare(smaller, MODEL, LIMITS, StageClock(0)), alpha, FusionMemory(), StageClock(0)
    )
    assert answer.size == Size(160, 96)
    assert answer.payload == bytes([90]) * (160 * 96 * 3)


@pytest.mark.parametrize(
    ("requested", "wanted"),
    [
        (RequestedComposite(Blur(0)), CompositePlan(Blur(0.036), PixelFormat.NV12, 0, 80)),
        (
            RequestedComposite(Blur(0.2), PixelFormat.JPEG, 30, 5),
            CompositePlan(Blur(0.2), PixelFormat.JPEG, 30, 5),
        ),
        (RequestedComposite(Transparent()), CompositePlan(Transparent(), PixelFormat.PNG, 0, 80)),
    ],
)
def test_defaults_are_filled_in(requested: RequestedComposite, wanted: CompositePlan) -> None:
    complaints: list[tuple[str, str]] = []
    assert check_composite(requested, PixelFormat.NV12, {}, complaints) == wanted
    assert complaints == []


def test_all_complaints_come_together() -> None:
    complaints: list[tuple[str, str]] = []
    assert (
        check_composite(RequestedComposite(None, PixelFormat.PNG, 200, 300), PixelFormat.I420, {}, complaints) is None
    )
    assert [path.rsplit(".", 1)[1] for path, _ in complaints] == [
        "background", "picture_format", "jpeg_quality", "edge_softness_percent"
    ]  # fmt: skip
