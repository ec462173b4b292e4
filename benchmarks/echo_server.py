"""``python -m benchmarks.echo_server``: the least that a protobuf service in grpc.aio costs; see `EchoServer`.

It takes the service's own stream and answers every frame with a mask that was made beforehand: generated messages, a
picture read as an array, a copy of the mask, no fusion, no letterbox, no limits, no metrics. Whatever a server of ours
costs beyond this and beyond its engine is of our own making.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np

from benchmarks.closed_loop import MESSAGE_LIMIT_BYTES, SERVICE
from benchmarks.target import MALLOC_ENVIRONMENT, LocalServer
from humanseg.v1 import segmentation_pb2 as pb


class EchoServer(LocalServer):
    """The echo server as a child process, on a free port."""

    def __init__(self, log_path: Path, mask_bytes: int, *, keeps_memory: bool, cpus: str | None = None) -> None:
        """Nothing is started yet.

        Args:
            log_path: where its stderr goes; the folder must exist.
            mask_bytes: length of every answer's mask.
            keeps_memory: with glibc's malloc set as the service has it (`MALLOC_ENVIRONMENT`), or as it comes.
            cpus: CPUs that it may use, as ``0,2-3``; None: all.

        Raises:
            TargetError: ``cpus`` cannot be read.
        """
        super().__init__(log_path, ["--mask-bytes", str(mask_bytes)], cpus=cpus)
        self._keeps_memory = keeps_memory

    def command(self) -> list[str]:
        """Without the service's flags."""
        return [sys.executable, "-m", "benchmarks.echo_server"]

    def environment(self) -> Mapping[str, str]:
        """The user's own, but for malloc."""
        plain = {name: value for name, value in os.environ.items() if name not in MALLOC_ENVIRONMENT}
        return {**plain, **MALLOC_ENVIRONMENT} if self._keeps_memory else plain


class _Echo:
    def __init__(self, mask_bytes: int) -> None:
        self._mask = np.zeros(mask_bytes, np.uint8)

    async def stream_segment(
        self,
        request_iterator: AsyncIterator[pb.StreamSegmentRequest],
        context: "grpc.aio.ServicerContext[pb.StreamSegmentRequest, pb.StreamSegmentResponse]",
    ) -> None:
        async for request in request_iterator:
            response = pb.StreamSegmentResponse()
            if request.WhichOneof("message") == "frame":
                picture = np.frombuffer(request.frame.picture, np.uint8)
                response.result.frame_id = request.frame.frame_id
                response.result.outcome = pb.FRAME_OUTCOME_MASK if picture.size else pb.FRAME_OUTCOME_DROPPED
                response.result.mask = self._mask.tobytes()
            await context.write(response)


async def serve(mask_bytes: int) -> None:
    """Serve until SIGTERM."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
        ]
    )
    handler = grpc.stream_stream_rpc_method_handler(
        _Echo(mask_bytes).stream_segment,
        pb.StreamSegmentRequest.FromString,
        pb.StreamSegmentResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"StreamSegment": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    # The line that `LocalServer` waits for; it has no metrics.
    print(f"event=ready port={port} metrics_port=0", file=sys.stderr, flush=True)
    await stop.wait()
    await server.stop(grace=1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """The child process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.echo_server")
    parser.add_argument("--mask-bytes", type=int, required=True)
    asyncio.run(serve(parser.parse_args(arguments).mask_bytes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
