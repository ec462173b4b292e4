"""The border between a call and the wire: ids for the log, and how a call ends with an error's status."""

import asyncio
import uuid
from typing import Any, NoReturn

import grpc

from service.call_errors import CallError
from service.status import to_status

#: How long a status may wait for the client's window before the call is cut off without one.
ABORT_TIMEOUT_S = 10.0


async def abort(context: "grpc.aio.ServicerContext[Any, Any]", error: CallError) -> NoReturn:
    """End the call with the error's status.

    The status queues behind answers that the client has not read. It gets them all if it reads on in time; else the
    call is cut off, since grpc.aio would wait for it for ever.
    """
    async with asyncio.timeout(ABORT_TIMEOUT_S):
        await context.abort_with_status(to_status(error))
    raise AssertionError("abort_with_status always raises")


def new_id() -> str:
    """The id of a session or of a failed call, as the log has it."""
    return uuid.uuid4().hex[:12]
