"""Where planes lie must not be seen in any answer, and a turned frame has the turned mask, in every raw format."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.metadata import ModelMetadata
from humanseg.frames import PACKED, Layout, PixelFormat, RawFrame, pack_planes, plane_shapes, view_frame
from humanseg.masks import MaskEncoding, decode_mask
from humanseg.options import ColorMatrix, ColorRange, Estimates, TemporalFusion, YuvColor
from humanseg.vision.arrays import Size
from humanseg.vision.color import to_rgb
from humanseg.vision.composite_planes import Blur
from humanseg.vision.orientation import Rotation, to_sent, to_upright
from service.compositing import Background, CompositePlan, Transparent
from service.pipeline import EncodedMask, FusionMemory, PictureTask, finish, prepare
from service.stages import StageClock
from service.stream_config import SizeLimits
from support.models import LANDSCAPE, UPRIGHT
from support.planes import lay_out

LIMITS = SizeLimits(max_frame_bytes=6_220_800, max_frame_px=1920 * 1080, max_side_px=4096)
MODEL = ModelMetadata(name="medium", version="test", landscape=LANDSCAPE, upright=UPRIGHT)
RAW = [PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12]
BACKGROUNDS: list[Background | None] = [None, Blur(), (9, 99, 199), Transparent()]

three_lengths = st.tuples(*[st.integers(0, 40)] * 3)
sizes = st.builds(Size, st.integers(1, 90), st.integers(1, 90))
colors = st.builds(YuvColor, st.sampled_from(ColorMatrix), st.sampled_from(ColorRange))


def noise(size: Size, pixel_format: PixelFormat, color: YuvColor, seed: int) -> RawFrame:
    rng = np.random.default_rng(seed)
    planes = tuple(rng.integers(0, 256, shape, np.uint8) for shape in plane_shapes(pixel_format, size))
    return RawFrame(size, pixel_format, planes, color)


def task_of(raw: RawFrame, picture: bytes, layout: Layout, plan: CompositePlan | None = None) -> PictureTask:
    return PictureTask(
        picture=picture, pixel_format=raw.pixel_format, size=raw.size, rotation=Rotation.DEG_0, mirrored=False,
        encoding=MaskEncoding.ALPHA8, mask_size=None, fusion=TemporalFusion.HIGH, estimates=Estimates.OFF,
        capture_time_us=1, exif=False, composite=plan, layout=layout, color=raw.color,
    )  # fmt: skip


def answer_of(task: PictureTask) -> tuple[NDArray[np.uint8], EncodedMask]:
    """What the network would see, and the answer where it sees people at random places of the upright picture."""
    prepared = prepare(task, MODEL, LIMITS, StageClock(0))
    canvas = prepared.placement.canvas
    alpha = np.random.default_rng(canvas.width).random(canvas.shape, np.float32)
    return prepared.network_input, finish(task, MODEL, prepared, alpha, FusionMemory(), StageClock(0))


@settings(deadline=None, max_examples=120)
@given(
    size=sizes,
    pixel_format=st.sampled_from(RAW),
    color=colors,
    paddings=three_lengths,
    gaps=three_lengths,
    order=st.permutations(range(3)),
    background=st.sampled_from(BACKGROUNDS),
    rotation=st.sampled_from(Rotation),
    seed=st.integers(0, 2**32 - 1),
)
def test_masks_and_pictures_are_those_of_the_packed_frame(
    size: Size,
    pixel_format: PixelFormat,
    color: YuvColor,
    paddings: tuple[int, int, int],
    gaps: tuple[int, int, int],
    order: list[int],
    background: Background | None,
    rotation: Rotation,
    seed: int,
) -> None:
    raw = noise(size, pixel_format, color, seed)
    data, layout = lay_out(raw, paddings, gaps, order)
    plan = None if background is None else CompositePlan(background, pixel_format, 0, 80)
    packed = dataclasses.replace(task_of(raw, pack_planes(raw), PACKED, plan), rotation=rotation)
    seen, answer = answer_of(dataclasses.replace(packed, picture=data, layout=layout))
    wanted, wanted_answer = answer_of(packed)
    np.testing.assert_array_equal(seen, wanted)
    assert answer == wanted_answer


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", Rotation)
@pytest.mark.parametrize("pixel_format", RAW)
def test_the_mask_turns_with_the_frame_exactly(pixel_format: PixelFormat, rotation: Rotation, mirrored: bool) -> None:
    """At four times the network's size: averaged over whole pixels, there is nothing to round differently."""
    upright = noise(Size(4 * LANDSCAPE.width, 4 * LANDSCAPE.height), pixel_format, YuvColor(ColorMatrix.BT709), 1)
    planes = tuple(to_sent(plane, rotation, mirrored) for plane in upright.planes)
    sent = RawFrame(Size.of(planes[0]), pixel_format, planes, upright.color)
    data, layout = lay_out(sent, (13, 5, 7), (3, 2, 1), (2, 0, 1))
    turned = dataclasses.replace(task_of(sent, data, layout), rotation=rotation, mirrored=mirrored)
    seen, answer = answer_of(turned)
    wanted, upright_answer = answer_of(task_of(upright, pack_planes(upright), PACKED))
    np.testing.assert_array_equal(seen, wanted)
    mask = decode_mask(answer.payload, answer.encoding, answer.size)
    upright_mask = decode_mask(upright_answer.payload, upright_answer.encoding, upright_answer.size)
    assert mask.shape == sent.size.shape
    np.testing.assert_array_equal(mask, to_sent(upright_mask, rotation, mirrored))


@settings(deadline=None, max_examples=60)
@given(
    size=sizes,
    pixel_format=st.sampled_from(RAW),
    color=colors,
    paddings=three_lengths,
    rotation=st.sampled_from(Rotation),
    mirrored=st.booleans(),
)
def test_colors_turn_with_frames_of_even_size(
    size: Size,
    pixel_format: PixelFormat,
    color: YuvColor,
    paddings: tuple[int, int, int],
    rotation: Rotation,
    mirrored: bool,
) -> None:
    """Of odd sizes, a turned plane would have its half pixel on the other side."""
    even = Size(2 * size.width, 2 * size.height)
    raw = noise(even, pixel_format, color, 1)
    data, layout = lay_out(raw, paddings)
    turned = tuple(to_upright(plane, rotation, mirrored) for plane in raw.planes)
    seen = to_rgb(RawFrame(Size.of(turned[0]), pixel_format, turned, color))
    wanted = to_upright(to_rgb(view_frame(data, pixel_format, even, layout=layout, color=color)), rotation, mirrored)
    np.testing.assert_array_equal(seen, wanted)
