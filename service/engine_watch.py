"""Readiness follows the engine where servers elsewhere run it: down while nobody does, up again by itself."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from service import log
from service.models import ModelCatalog

#: How often the engine is asked; it answers from memory.
INTERVAL_S = 0.25


async def watch_engine(catalog: ModelCatalog, show: Callable[[bool], Awaitable[None]]) -> None:
    """Show whenever the engine is lost or back, until cancelled; until then it counts as there."""
    is_lost = False
    while True:
        await asyncio.sleep(INTERVAL_S)
        lacking = catalog.lacking()
        if (lacking is not None) == is_lost:
            continue
        is_lost = lacking is not None
        await show(not is_lost)
        if lacking is None:
            log.event("engine_back")
        else:
            log.event("engine_lost", level=logging.ERROR, reason=lacking)
