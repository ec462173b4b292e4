"""gRPC's health service: which names serve, asked once or watched.

grpcio's own one (1.85) forgets the other watchers of a name as soon as one of them leaves: they never hear that this
server drains. And it leaves watches open, for which the server's stop waits as for any call.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """The health of all names that this server tells, which have it in common."""

    def __init__(self, names: Iterable[str]) -> None:
        """NOT_SERVING until `show` says otherwise; ``names`` has "" for the server as a whole."""
        self._names = frozenset(names)
        self._status = pb.HealthCheckResponse.NOT_SERVING
        self._ended = False
        self._changed = asyncio.Event()

    def show(self, *, serving: bool) -> None:
        """Tell it to those that watch, and to those that ask."""
        self._status = pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING
        self._wake()

    def end_watches(self) -> None:
        """End the watches, and at once those that are still to come; questions are answered as before."""
        self._ended = True
        self._wake()

    async def Check(  # noqa: N802
        self, request: pb.HealthCheckRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.HealthCheckResponse:
        """The health of a name; NOT_FOUND where this server does not know it."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here; {self._known()}")
        return pb.HealthCheckResponse(status=self._status)

    async def Watch(  # noqa: N802
        self, request: pb.HealthCheckRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        """The health of a name, now and whenever it changes, until this server stops."""
        told = None
        while not self._ended:
            changed = self._changed
            unknown = request.service not in self._names
            status = pb.HealthCheckResponse.SERVICE_UNKNOWN if unknown else self._status
            if status != told:
                yield pb.HealthCheckResponse(status=status)
                told = status
            await changed.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server stops")

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _known(self) -> str:
        return "known: " + ", ".join(repr(name) for name in sorted(self._names))
