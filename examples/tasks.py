"""Tasks that live and end together."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first_end(*parts: Coroutine[Any, Any, None]) -> None:
    """Run them until the first one ends or fails, end the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
