"""Random arrivals, cancellations and faults: every caller is answered, and with its own mask."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.registry import DEFAULT_ENGINE, open_runner
from engines.runner import EngineFailedError, Runner, RunnerInfo
from humanseg.frames import PixelFormat
from humanseg.masks import MaskEncoding
from humanseg.options import Estimates, TemporalFusion
from humanseg.vision.arrays import AlphaBatch, Batch, Size
from humanseg.vision.decode import DecodeError
from humanseg.vision.orientation import Rotation
from service.dispatcher import Dispatcher, DispatcherClosed, FrameLate
from service.metrics import ServiceMetrics
from service.models import ModelCatalog
from service.pipeline import FusionMemory, PictureTask
from service.stages import StageClock
from service.stream_config import SizeLimits
from support.models import LANDSCAPE, write_red_model
from support.timing import limit_s

LIMITS = SizeLimits(max_frame_bytes=6_220_800, max_frame_px=1920 * 1080, max_side_px=4096)
#: A picture of this level makes the engine fail with its whole batch.
POISON = 255
#: Levels that make it fail in ways that the contract does not know: by these exceptions, or by too few or many rows.
RAISES: dict[int, type[BaseException]] = {
    POISON: EngineFailedError, 254: StopIteration, 253: SystemExit, 252: asyncio.CancelledError, 251: ValueError,
}  # fmt: skip
TOO_FEW_ROWS, TOO_MANY_ROWS = 250, 249
FAULTY = {*RAISES, TOO_FEW_ROWS, TOO_MANY_ROWS}
FAR_NS = 3600 * 10**9


class BatchingRunner:
    """The real runner, as slow and as fond of batches as a GPU, and failing where it finds a faulty level."""

    def __init__(self, runner: Runner, preferred_batch: int, permits: threading.Semaphore | None = None) -> None:
        """Each batch waits for one of the permits; without, for 2 ms."""
        self._runner = runner
        self._permits = permits
        self.batches: list[list[int]] = []
        self.info: RunnerInfo = replace(runner.info, preferred_batch=preferred_batch)

    def run(self, batch: Batch) -> AlphaBatch:
        levels = [int(picture[picture.shape[0] // 2, picture.shape[1] // 2, 0]) for picture in batch]
        self.batches.append(levels)
        if self._permits is None:
            time.sleep(0.002)
        else:
            assert self._permits.acquire(timeout=limit_s(10))
        for level in levels:
            if level in RAISES:
                raise RAISES[level]("poisoned")
        alphas = self._runner.run(batch)
        if TOO_FEW_ROWS in levels:
            return alphas[:-1]
        return np.concatenate([alphas, alphas[:1]]) if TOO_MANY_ROWS in levels else alphas

    def close(self) -> None:
        self._runner.close()


@pytest.fixture(scope="module")
def red(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    path = write_red_model(tmp_path_factory.mktemp("models") / "red.onnx")
    runner = open_runner(DEFAULT_ENGINE, path, max_batch=8, concurrency=2)
    yield runner
    runner.close()


def task(level: int, *, broken: bool = False, upright: bool = False) -> PictureTask:
    """A picture of one level of red, so that its mask is that level everywhere."""
    size = Size(40, 60) if upright else Size(*LANDSCAPE)
    picture = b"broken" if broken else np.full((*size.shape, 3), level, np.uint8).tobytes()
    return PictureTask(
        picture=picture, pixel_format=PixelFormat.JPEG if broken else PixelFormat.RGB24, size=size,
        rotation=Rotation.DEG_0, mirrored=False, encoding=MaskEncoding.ALPHA8, mask_size=None,
        fusion=TemporalFusion.HIGH, estimates=Estimates.OFF, capture_time_us=1, exif=False,
    )  # fmt: skip


@dataclass
class Caller:
    level: int
    broken: bool
    upright: bool
    cancel_after_ms: float | None
    delay_ms: float
    deadline_ns: int | None
    """From the arrival on."""


CALLERS = st.lists(
    st.builds(
        Caller,
        level=st.integers(0, 255),
        broken=st.sampled_from([False, False, False, True]),
        upright=st.booleans(),
        cancel_after_ms=st.one_of(st.none(), st.none(), st.floats(0, 8)),
        delay_ms=st.sampled_from([0, 0, 0, 1, 3]),
        deadline_ns=st.sampled_from([None, None, FAR_NS, 0]),
    ),
    min_size=1,
    max_size=14,
    unique_by=lambda caller: caller.level,
)


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(limit_s(10)):
        while not reached():  # noqa: ASYNC110  # no thread of the dispatcher's can set an event of ours
            await asyncio.sleep(0.001)


async def call(dispatcher: Dispatcher, caller: Caller) -> object:
    await asyncio.sleep(caller.delay_ms / 1000)
    wanted = task(caller.level, broken=caller.broken, upright=caller.upright)
    clock = StageClock(time.monotonic_ns())
    deadline_ns = None if caller.deadline_ns is None else clock.arrived_ns + caller.deadline_ns
    calling = asyncio.ensure_future(
        dispatcher.segment(wanted, "medium", FusionMemory(), clock, deadline_ns=deadline_ns)
    )
    if caller.cancel_after_ms is not None:
        await asyncio.sleep(caller.cancel_after_ms / 1000)
        calling.cancel()
    answer = (await asyncio.gather(calling, return_exceptions=True))[0]
    # Of a cancellation that an engine raised, the caller must not take itself for cancelled.
    assert calling.cancelled() == (isinstance(answer, asyncio.CancelledError))
    return answer


def assert_answered(caller: Caller, answer: object, batches: list[list[int]]) -> None:
    ran = [levels for levels in batches if caller.level in levels]
    assert len(ran) <= 1, "never twice in the engine"
    if isinstance(answer, asyncio.CancelledError):
        assert caller.cancel_after_ms is not None
    elif caller.deadline_ns == 0:
        assert isinstance(answer, FrameLate)
        assert not ran, "dropped before the engine, not after"
    elif caller.broken:
        assert isinstance(answer, DecodeError)
    elif isinstance(answer, BaseException):
        assert isinstance(answer, EngineFailedError | ValueError), answer
        assert FAULTY & set(ran[0]), "its own batch was faulty"
    else:
        assert set(answer.payload) == {caller.level}, "another caller's mask"  # type: ignore[attr-defined]
        assert not FAULTY & set(ran[0])


@settings(deadline=None, max_examples=60)
@given(callers=CALLERS, preferred_batch=st.integers(1, 5), threads=st.integers(1, 3))
def test_every_caller_is_answered_with_its_own_mask(
    red: Runner, callers: list[Caller], preferred_batch: int, threads: int
) -> None:
    async def scenario() -> None:
        runner = BatchingRunner(red, preferred_batch)
        dispatcher = Dispatcher(ModelCatalog({"medium": runner}, "medium"), LIMITS, ServiceMetrics(), threads=threads)
        async with asyncio.timeout(limit_s(20)):
            answers = await asyncio.gather(*(call(dispatcher, caller) for caller in callers))
            for caller, answer in zip(callers, answers, strict=True):
                assert_answered(caller, answer, runner.batches)
            assert all(len(levels) <= preferred_batch for levels in runner.batches)
            # All threads are free again, and the next caller is served.
            after = await asyncio.gather(
                *(dispatcher.segment(task(7), "medium", FusionMemory(), StageClock(0)) for _ in range(4))
            )
            assert [set(mask.payload) for mask in after] == [{7}] * 4
            assert dispatcher.waiting == 0
        dispatcher.close()

    asyncio.run(scenario())


async def test_cancelling_one_of_a_batch_leaves_the_others_alone(red: Runner) -> None:
    """Whichever it is: the fault of a well-known server left the others unanswered for ever."""
    for victim in range(4):
        permits = threading.Semaphore(0)
        runner = BatchingRunner(red, 4, permits)
        dispatcher = Dispatcher(ModelCatalog({"medium": runner}, "medium"), LIMITS, ServiceMetrics(), threads=1)
        # One keeps the only thread busy, so that the four behind it become one batch.
        first = asyncio.ensure_future(dispatcher.segment(task(1), "medium", FusionMemory(), StageClock(0)))
        await asyncio.sleep(0)
        four = [
            asyncio.ensure_future(dispatcher.segment(task(10 + index), "medium", FusionMemory(), StageClock(0)))
            for index in range(4)
        ]
        await asyncio.sleep(0)
        assert dispatcher.waiting == 4
        permits.release()
        await first
        await until(lambda batches=runner.batches: len(batches) == 2)  # type: ignore[misc]
        four[victim].cancel()
        permits.release()
        async with asyncio.timeout(limit_s(10)):
            answers = await asyncio.gather(*four, return_exceptions=True)
        assert runner.batches == [[1], [10, 11, 12, 13]]
        for index, answer in enumerate(answers):
            if index == victim:
                assert isinstance(answer, asyncio.CancelledError)
            else:
                assert set(answer.payload) == {10 + index}  # type: ignore[union-attr]
        dispatcher.close()


async def test_a_batch_that_fails_costs_its_own_frames_only(red: Runner) -> None:
    runner = BatchingRunner(red, 2)
    dispatcher = Dispatcher(ModelCatalog({"medium": runner}, "medium"), LIMITS, ServiceMetrics(), threads=1)
    levels = [1, 20, POISON, 30, 31]
    answers = await asyncio.gather(
        *(dispatcher.segment(task(level), "medium", FusionMemory(), StageClock(0)) for level in levels),
        return_exceptions=True,
    )
    assert runner.batches == [[1], [20, POISON], [30, 31]]
    assert [isinstance(answer, EngineFailedError) for answer in answers] == [False, True, True, False, False]
    dispatcher.close()


@pytest.mark.parametrize("rows", [TOO_FEW_ROWS, TOO_MANY_ROWS])
async def test_an_answer_of_another_length_is_nobody_s_mask(red: Runner, rows: int) -> None:
    """Which row was left out cannot be known."""
    runner = BatchingRunner(red, 2)
    dispatcher = Dispatcher(ModelCatalog({"medium": runner}, "medium"), LIMITS, ServiceMetrics(), threads=1)
    async with asyncio.timeout(limit_s(10)):
        answers = await asyncio.gather(
            *(dispatcher.segment(task(level), "medium", FusionMemory(), StageClock(0)) for level in (1, 2, rows)),
            return_exceptions=True,
        )
    assert runner.batches == [[1], [2, rows]]
    assert [isinstance(answer, EngineFailedError) for answer in answers] == [False, True, True]
    dispatcher.close()


async def test_a_frame_that_nobody_waits_for_is_not_worked_on(red: Runner) -> None:
    runner = BatchingRunner(red, 1)
    dispatcher = Dispatcher(ModelCatalog({"medium": runner}, "medium"), LIMITS, ServiceMetrics(), threads=1)
    calls = [
        asyncio.ensure_future(dispatcher.segment(task(level), "medium", FusionMemory(), StageClock(0)))
        for level in (1, 2, 3)
    ]
    await asyncio.sleep(0)
    assert dispatcher.waiting == 2
    calls[1].cancel()
    await asyncio.wait([calls[1]])
    assert dispatcher.waiting == 1, "its picture is let go at once"
    await asyncio.gather(*calls, return_exceptions=True)
    assert runner.batches == [[1], [3]]
    dispatcher.close()


async def test_a_frame_that_became_late_while_it_waited_is_dropped_before_the_engine(red: Runner) -> None:
    permits = threading.Semaphore(0)
    runner = BatchingRunner(red, 1, permits)
    dispatcher = Dispatcher(ModelCatalog({"medium": runner}, "medium"), LIMITS, ServiceMetrics(), threads=1)
    first = asyncio.ensure_future(dispatcher.segment(task(1), "medium", FusionMemory(), StageClock(0)))
    now_ns = time.monotonic_ns()
    late = dispatcher.segment(task(2), "medium", FusionMemory(), StageClock(now_ns), deadline_ns=now_ns + 10**7)
    patient = dispatcher.segment(task(3), "medium", FusionMemory(), StageClock(now_ns), deadline_ns=now_ns + FAR_NS)
    waiting = [asyncio.ensure_future(call) for call in (late, patient)]
    await asyncio.sleep(0.02)
    for _ in range(3):
        permits.release()
    async with asyncio.timeout(limit_s(10)):
        _, too_late, mask = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert isinstance(too_late, FrameLate)
    assert "of 10 allowed" in str(too_late)
    assert set(mask.payload) == {3}  # type: ignore[union-attr]
    assert runner.batches == [[1], [3]]
    dispatcher.close()


async def test_the_most_urgent_goes_first(red: Runner) -> None:
    permits = threading.Semaphore(0)
    runner = BatchingRunner(red, 1, permits)
    dispatcher = Dispatcher(ModelCatalog({"medium": runner}, "medium"), LIMITS, ServiceMetrics(), threads=1)
    now_ns = time.monotonic_ns()

    def asks(level: int, deadline_ns: int | None, hungry_since_ns: int | None = None) -> "asyncio.Task[object]":
        call = dispatcher.segment(
            task(level), "medium", FusionMemory(), StageClock(now_ns),
            deadline_ns=deadline_ns, hungry_since_ns=hungry_since_ns,
        )  # fmt: skip
        return asyncio.ensure_future(call)

    calls = [
        asks(1, None),  # takes the only thread
        asks(2, None),
        asks(3, now_ns + 2 * FAR_NS),
        asks(4, now_ns + FAR_NS),
        asks(5, None, hungry_since_ns=now_ns - FAR_NS),
    ]
    await asyncio.sleep(0)
    for _ in calls:
        permits.release()
    async with asyncio.timeout(limit_s(10)):
        await asyncio.gather(*calls)
    assert runner.batches == [[1], [5], [4], [3], [2]]
    dispatcher.close()


async def test_where_the_system_has_no_thread_the_frame_fails_and_nobody_waits(red: Runner) -> None:
    dispatcher = Dispatcher(ModelCatalog({"medium": red}, "medium"), LIMITS, ServiceMetrics(), threads=1)
    dispatcher._pool.shutdown()  # refuses work with the error that it also gives where no thread can be started
    for _ in range(2):
        async with asyncio.timeout(limit_s(10)):
            with pytest.raises(EngineFailedError, match="the batch broke off"):
                await dispatcher.segment(task(1), "medium", FusionMemory(), StageClock(0))
    dispatcher.close()


async def test_closing_refuses_what_waits_and_what_comes(red: Runner) -> None:
    runner = BatchingRunner(red, 1)
    dispatcher = Dispatcher(ModelCatalog({"medium": runner}, "medium"), LIMITS, ServiceMetrics(), threads=1)
    calls = [
        asyncio.ensure_future(dispatcher.segment(task(level), "medium", FusionMemory(), StageClock(0)))
        for level in (1, 2)
    ]
    await asyncio.sleep(0)
    dispatcher.close()
    running, waiting = await asyncio.gather(*calls, return_exceptions=True)
    assert set(running.payload) == {1}  # type: ignore[union-attr]
    assert isinstance(waiting, DispatcherClosed)
    with pytest.raises(DispatcherClosed):
        await dispatcher.segment(task(3), "medium", FusionMemory(), StageClock(0))


async def test_the_metrics_count_batches_and_the_clock_every_stage(red: Runner) -> None:
    metrics, clock = ServiceMetrics(), StageClock(time.monotonic_ns())
    dispatcher = Dispatcher(ModelCatalog({"medium": red}, "medium"), LIMITS, metrics, threads=1)
    await dispatcher.segment(task(9), "medium", FusionMemory(), clock)
    dispatcher.close()
    assert set(clock.wall_ns) == {"queue", "preprocess", "inference", "fusion", "postprocess", "encode"}
    assert set(clock.cpu_ns) == {"preprocess", "inference", "fusion", "postprocess", "encode"}
    assert all(value >= 0 for value in (*clock.wall_ns.values(), *clock.cpu_ns.values()))
    assert metrics.registry.get_sample_value("humanseg_batch_frames_count", {"model": "medium"}) == 1
