"""Whether the event loop of a worker still turns: a byte twice a second over the pipe to the supervisor.

It comes from the event loop itself, since a thread would go on beating beside a loop that stands still. It begins when
the worker takes streams: loading and warming up may take as long as they need.
"""

import asyncio
import contextlib
import os

BEAT_INTERVAL_S = 0.5


async def beat_for_ever(pipe: int, interval_s: float = BEAT_INTERVAL_S) -> None:
    """Write a byte to a file descriptor at every interval; one that is full or closed is not waited for."""
    os.set_blocking(pipe, False)
    while True:
        # Full: the supervisor stands still. Broken: it is gone, and the end of standard input tells us.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(pipe, b"\n")
        await asyncio.sleep(interval_s)


async def fell_silent(
    pipe: asyncio.StreamReader, silence_s: float, interval_s: float = BEAT_INTERVAL_S
) -> float | None:
    """Wait until no beat came for so long.

    Counted are the intervals in which we looked, not the time on the clock: a supervisor that stood still itself (a
    container that was paused) would otherwise find all of its workers silent.

    Returns:
        the silence in seconds; None where the worker ended instead.
    """
    silent = 0
    while silent * interval_s < silence_s:
        try:
            async with asyncio.timeout(interval_s):
                if not await pipe.read(4096):
                    return None
            silent = 0
        except TimeoutError:
            silent += 1
    return silent * interval_s
