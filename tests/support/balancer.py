"""What a Kubernetes Service is to a client: one address; new connections go to the replica that is ready."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Balancer:
    """A relay of TCP connections. Those that are open stay where they are."""

    def __init__(self) -> None:
        self.port_behind = 0
        self.target = ""
        self._relays: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """Cut the connections that are open still: one left to the garbage collector fails whichever test runs then."""
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay a connection that just came."""
        relay = asyncio.create_task(self._relay(reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port_behind)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def running_balancer() -> AsyncIterator[Balancer]:
    balancer = Balancer()
    server = await asyncio.start_server(balancer.connected, "127.0.0.1", 0)
    balancer.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        try:
            yield balancer
        finally:
            await balancer.aclose()
