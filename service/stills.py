"""Still pictures, whatever protocol they came by: how many at once, what an error means, what is counted."""

import logging
import time

from humanseg.frames import FrameError
from humanseg.vision.decode import DecodeError, TooLargeError
from service import log
from service.border import new_id
from service.call_errors import CallError, Reason, invalid
from service.dispatcher import Dispatcher, DispatcherClosed
from service.metrics import ServiceMetrics
from service.pipeline import EncodedMask, FusionMemory, PictureTask
from service.stages import StageClock
from service.status import internal
from service.still_composite import with_image
from service.stream_config import SizeLimits


class StillCall:
    """One call for a still picture, from its arrival on: ``with desk.call() as still``. Counts how it ended."""

    def __init__(self, desk: "StillDesk") -> None:
        self._desk = desk
        self.clock = StageClock(time.monotonic_ns())

    def __enter__(self) -> "StillCall":
        self._desk.under_way += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._desk.under_way -= 1
        if error is None:
            self._desk.count("mask")
        elif isinstance(error, CallError):
            self._desk.count(error.reason.name.lower())
        elif isinstance(error, Exception):  # the border to the wire: what it was stays in the log
            self._desk.count("internal")
            request_id = new_id()
            log.event("call_failed", level=logging.ERROR, error=error, request_id=request_id)
            raise internal(request_id) from None

    async def segment(self, task: PictureTask, model: str) -> EncodedMask:
        """The mask or finished picture of a picture, by a model that is served.

        Raises:
            CallError: LIMIT_EXCEEDED, PICTURE_INVALID, DRAINING.
        """
        return await self._desk.segment(task, model, self.clock)


class StillDesk:
    """The still pictures of one server."""

    def __init__(self, dispatcher: Dispatcher, metrics: ServiceMetrics, limits: SizeLimits, max_stills: int) -> None:
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._limits = limits
        self._max_stills = max_stills
        self.under_way = 0

    def call(self) -> StillCall:
        """A call that begins now."""
        return StillCall(self)

    def require_room(self) -> None:
        """Raises CallError (OVERLOADED) where more calls are under way than are taken, this one included."""
        if self.under_way > self._max_stills:
            raise CallError(
                Reason.OVERLOADED,
                f"{self._max_stills} still pictures are being segmented, more are not taken; send this one later",
                metadata={"max_stills": str(self._max_stills)},
            )

    def count(self, outcome: str) -> None:
        """Count how a call ended."""
        self._metrics.stills.labels(outcome).inc()

    async def segment(self, task: PictureTask, model: str, clock: StageClock) -> EncodedMask:
        """See `StillCall.segment`."""
        clock.started()
        task = await with_image(task, self._limits)
        try:
            mask = await self._dispatcher.segment(task, model, FusionMemory(), clock)
        except TooLargeError as error:
            metadata = {"max_frame_px": str(self._limits.max_frame_px), "max_side_px": str(self._limits.max_side_px)}
            raise CallError(Reason.LIMIT_EXCEEDED, str(error), metadata=metadata) from None
        except (DecodeError, FrameError) as error:
            raise invalid(Reason.PICTURE_INVALID, "picture cannot be read", [("picture", str(error))]) from None
        except DispatcherClosed:
            raise CallError(Reason.DRAINING, "this server stops; another replica will take the call") from None
        clock.answered()
        self._metrics.observe_stages(clock)
        return mask
