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

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port_behind)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def running_balancer() -> AsyncIterator[Balancer]:
    balancer = Balancer()
    server = await asyncio.start_server(balancer._relay, "127.0.0.1", 0)
    balancer.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield balancer
