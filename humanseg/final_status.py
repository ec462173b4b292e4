"""How a stream ended, as the server said it, whatever grpc.aio makes of it meanwhile."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc
from grpc import aio

from humanseg.errors import CallStatus
from humanseg.v1 import segmentation_pb2 as pb

#: How long a broken call may take to say why it broke; it is spent only where the connection hangs as well.
VERDICT_S = 5.0
#: What grpc.aio 1.85 makes of a write that the end of the call has overtaken.
_WRITE_OVERTAKEN = "Internal error from Core"

StreamCall = aio.StreamStreamCall[pb.StreamSegmentRequest, pb.StreamSegmentResponse]
Value = TypeVar("Value")


class FinalStatus:
    """How a call ended, told apart from what grpc.aio makes of a write that the end has overtaken.

    Such a write sets the call's status to INTERNAL "Internal error from Core", before or after the server's own status
    arrives (grpcio 1.85: in three of four calls that the server aborted while the client was writing). The first
    status seen in the done callback, or else the one that the reader's exception carries, was the server's own in all
    of 450 such calls.
    """

    def __init__(self, call: StreamCall) -> None:
        self._seen: CallStatus | None = None
        self._known = asyncio.Event()
        call.add_done_callback(self._note_from)

    def note(self, status: CallStatus) -> None:
        """Keep it, unless a better one is known."""
        if not self._known.is_set():
            self._seen = status
            if status.message != _WRITE_OVERTAKEN:
                self._known.set()

    async def wait(self) -> CallStatus:
        """The status, once it is known."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(VERDICT_S):
                await self._known.wait()
        return self._seen or CallStatus(grpc.StatusCode.UNKNOWN, "the call ended without a status")

    def _note_from(self, call: StreamCall) -> None:
        trailing = tuple(_finished_result(call.trailing_metadata()) or ())
        self.note(CallStatus(_finished_result(call.code()), _finished_result(call.details()) or "", trailing))


def _finished_result(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """The result of a coroutine that has nothing to wait for: a done call's status.

    Read at once, because a task would see the status only after a failing write may have overwritten it.
    """
    try:
        coroutine.send(None)
    except StopIteration as finished:
        result: Value = finished.value
        return result
    coroutine.close()
    raise RuntimeError("the status of a call that is done is not there yet")
