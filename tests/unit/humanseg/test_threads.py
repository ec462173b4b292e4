import asyncio
import threading

import pytest

from humanseg.threads import run_to_end
from support.timing import limit_s


async def test_what_the_call_returns_or_raises() -> None:
    assert await run_to_end(divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        await run_to_end(divmod, 7, 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_waits_for_the_call(fails: bool) -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(limit_s(10))
        ended.set()
        if fails:
            raise ValueError

    caller = asyncio.create_task(run_to_end(work))
    await asyncio.to_thread(begun.wait, limit_s(10))
    caller.cancel()
    await asyncio.sleep(0.05)
    assert not caller.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()
