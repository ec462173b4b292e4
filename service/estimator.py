"""Makes estimates for frames that the engines do not see, on threads of its own.

Not in the engines' queue: an estimate costs a few milliseconds, and behind a queue of pictures that each cost tens of
them it would come too late, and hold its session's next frame back for a second turn. Nor before the engines' work:
what waits here waits for other estimates only, at most one a session.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from engines.metadata import ModelMetadata
from service.models import ModelCatalog
from service.pipeline import EncodedMask, FusionMemory, PictureTask, estimate, prepare
from service.stages import StageClock
from service.stream_config import SizeLimits


class Estimator:
    """The threads that carry masks along. Belongs to one event loop."""

    def __init__(self, catalog: ModelCatalog, limits: SizeLimits, *, threads: int) -> None:
        self._catalog = catalog
        self._limits = limits
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="estimate")
        self._closed = False

    async def estimate(
        self, task: PictureTask, model: str, memory: FusionMemory, clock: StageClock
    ) -> EncodedMask | None:
        """Estimate one picture's mask from the session's memory, which stays as it is; None where that is not possible.

        Raises:
            DecodeError, FrameError: the picture is not what it is said to be.
        """
        if self._closed:
            return None
        metadata = self._catalog.runner(model).info.model
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _work, task, metadata, self._limits, memory, clock)

    def close(self) -> None:
        """Let what was begun end, and stop the threads."""
        self._closed = True
        # What waits is not cancelled: its session would take that for its own end.
        self._pool.shutdown(wait=True)


def _work(
    task: PictureTask, metadata: ModelMetadata, limits: SizeLimits, memory: FusionMemory, clock: StageClock
) -> EncodedMask | None:
    return estimate(task, metadata, prepare(task, metadata, limits, clock), memory, clock)
