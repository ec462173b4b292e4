"""The threads that make estimates, with a real model's memory: what comes back, and what a fault does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from engines.registry import DEFAULT_ENGINE, open_runner
from humanseg.frames import PixelFormat
from humanseg.masks import MaskEncoding
from humanseg.options import Estimates, TemporalFusion
from humanseg.vision.arrays import Size
from humanseg.vision.decode import DecodeError
from humanseg.vision.orientation import Rotation
from service.estimator import Estimator
from service.models import ModelCatalog
from service.pipeline import FusionMemory, PictureTask, finish, prepare
from service.stages import StageClock
from service.stream_config import SizeLimits
from support.models import LANDSCAPE, write_red_model

LIMITS = SizeLimits(max_frame_bytes=6_220_800, max_frame_px=1920 * 1080, max_side_px=4096)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> ModelCatalog:
    path = write_red_model(tmp_path_factory.mktemp("models") / "red.onnx")
    return ModelCatalog({"medium": open_runner(DEFAULT_ENGINE, path, max_batch=1, concurrency=1)}, "medium")


@pytest.fixture
async def estimator(catalog: ModelCatalog) -> AsyncIterator[Estimator]:
    opened = Estimator(catalog, LIMITS, threads=1)
    yield opened
    opened.close()


def task(level: int, time_us: int) -> PictureTask:
    """A picture of one level of red, so that its mask is that level everywhere."""
    return PictureTask(
        picture=np.full((*LANDSCAPE.shape, 3), level, np.uint8).tobytes(), pixel_format=PixelFormat.RGB24,
        size=Size(*LANDSCAPE), rotation=Rotation.DEG_0, mirrored=False, encoding=MaskEncoding.ALPHA8, mask_size=None,
        fusion=TemporalFusion.HIGH, estimates=Estimates.SUPERSEDED, capture_time_us=time_us, exif=False,
    )  # fmt: skip


def memory_after(catalog: ModelCatalog, level: int) -> FusionMemory:
    """The memory of a session whose network saw one frame, of this level."""
    runner, memory, seen = catalog.runner("medium"), FusionMemory(), task(level, 1)
    prepared = prepare(seen, runner.info.model, LIMITS, StageClock(0))
    finish(seen, runner.info.model, prepared, runner.run(prepared.network_input[None])[0], memory, StageClock(0))
    return memory


async def test_each_session_is_answered_from_its_own_memory(estimator: Estimator, catalog: ModelCatalog) -> None:
    memories = {level: memory_after(catalog, level) for level in (40, 41, 42, 43)}
    # All pictures alike: only the memories differ.
    answers = await asyncio.gather(
        *(estimator.estimate(task(41, 33_000), "medium", memory, StageClock(0)) for memory in memories.values())
    )
    for level, answer in zip(memories, answers, strict=True):
        assert answer is not None
        assert set(answer.payload) == {level}


async def test_a_broken_picture_is_told_and_the_next_one_is_estimated(
    estimator: Estimator, catalog: ModelCatalog
) -> None:
    memory = memory_after(catalog, 40)
    broken = replace(task(40, 33_000), picture=b"junk", pixel_format=PixelFormat.JPEG)
    with pytest.raises(DecodeError, match="neither JPEG nor PNG"):
        await estimator.estimate(broken, "medium", memory, StageClock(0))
    assert await estimator.estimate(task(40, 33_000), "medium", memory, StageClock(0)) is not None


async def test_a_caller_who_leaves_takes_nothing_along(estimator: Estimator, catalog: ModelCatalog) -> None:
    memory = memory_after(catalog, 40)
    leaving = [
        asyncio.ensure_future(estimator.estimate(task(40, 33_000), "medium", memory_after(catalog, 50), StageClock(0)))
        for _ in range(4)
    ]
    staying = asyncio.ensure_future(estimator.estimate(task(40, 33_000), "medium", memory, StageClock(0)))
    await asyncio.sleep(0)
    for caller in leaving:
        caller.cancel()
    answer = await staying
    assert answer is not None
    assert set(answer.payload) == {40}
    left = await asyncio.gather(*leaving, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in left)


async def test_a_closed_estimator_answers_what_it_has_begun_and_nothing_more(catalog: ModelCatalog) -> None:
    memory = memory_after(catalog, 40)
    closing = Estimator(catalog, LIMITS, threads=1)
    begun = [
        asyncio.ensure_future(closing.estimate(task(40, 33_000), "medium", memory, StageClock(0))) for _ in range(3)
    ]
    await asyncio.sleep(0)
    closing.close()
    answers = await asyncio.gather(*begun)
    assert all(answer is not None and set(answer.payload) == {40} for answer in answers)
    assert await closing.estimate(task(40, 33_000), "medium", memory, StageClock(0)) is None
