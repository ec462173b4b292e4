"""The heartbeat of a worker over a real pipe: who is silent, who only looks it."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from service.heartbeat import beat_for_ever, fell_silent
from support.timing import limit_s

INTERVAL_S = 0.02


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


async def reader_of(end: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(end, "rb", closefd=False)
    )
    return reader


async def test_a_loop_that_stands_still_is_silent_and_one_that_turns_is_not(pipe: tuple[int, int]) -> None:
    reader = await reader_of(pipe[0])
    beating = asyncio.create_task(beat_for_ever(pipe[1], INTERVAL_S))
    silent = asyncio.create_task(fell_silent(reader, silence_s=10 * INTERVAL_S, interval_s=INTERVAL_S))
    await asyncio.wait([silent], timeout=30 * INTERVAL_S)
    assert not silent.done(), "it beats"
    beating.cancel()
    async with asyncio.timeout(limit_s(20)):
        assert await silent == pytest.approx(10 * INTERVAL_S)


async def test_one_that_ends_is_not_silent_but_gone(pipe: tuple[int, int]) -> None:
    reader = await reader_of(pipe[0])
    os.close(pipe[1])
    async with asyncio.timeout(limit_s(20)):
        assert await fell_silent(reader, silence_s=3600) is None


async def test_a_supervisor_that_stood_still_does_not_blame_its_workers(pipe: tuple[int, int]) -> None:
    """Longer than the silence allowed, as in a container that was paused; the worker goes on a little later."""
    reader = await reader_of(pipe[0])
    silent = asyncio.create_task(fell_silent(reader, silence_s=10 * INTERVAL_S, interval_s=INTERVAL_S))
    await asyncio.sleep(0)
    time.sleep(15 * INTERVAL_S)  # noqa: ASYNC251  # the loop is to stand still
    later = threading.Timer(INTERVAL_S, os.close, [pipe[1]])
    later.start()
    async with asyncio.timeout(limit_s(20)):
        assert await silent is None, "the end of the worker is seen before any silence"
    later.join()


async def test_a_pipe_that_nobody_empties_does_not_hold_the_worker_up(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(pipe[1], bytes(65536))
    beating = asyncio.create_task(beat_for_ever(pipe[1], INTERVAL_S))
    await asyncio.sleep(2 * INTERVAL_S)
    assert not beating.done()
    os.close(pipe[0])
    await asyncio.sleep(2 * INTERVAL_S)
    assert not beating.done(), "nor one that is broken"
    beating.cancel()
