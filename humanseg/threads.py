"""Threads and tasks: blocking work beside the event loop, and whose cancellation it is."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")


async def run_to_end(
    function: Callable[Parameters, Value], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Value:
    """Call in a thread. A caller that is cancelled meanwhile gets its cancellation once the call has returned.

    `asyncio.to_thread` lets go of the thread instead: a generator would then be closed, or a file, while it is in use.
    """
    working = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        # Looked at, so that nobody warns of it; the cancellation is what counts now.
        if not working.cancelled():
            working.exception()
        raise


def this_task_is_cancelled() -> bool:
    """Whether a `CancelledError` seen now is meant for the running task, and not for what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
