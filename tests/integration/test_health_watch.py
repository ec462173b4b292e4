"""Those that watch the health, as gRPC's round_robin does: what they hear of a drain, and that none holds it up."""

import asyncio
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from humanseg.v1 import segmentation_pb2 as pb
from support.server import running_server
from support.stream import open_stream
from support.timing import limit_s

SERVING, NOT_SERVING, SERVICE_UNKNOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
    health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
)


async def test_a_watch_hears_of_the_drain_whoever_left_before_and_ends_with_it(models_folder: Path) -> None:
    with running_server(models_folder) as server:
        async with asyncio.timeout(limit_s(30)), grpc.aio.insecure_channel(server.target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            names = ("", "humanseg.v1.SegmentationService", "")
            staying, named, leaving = [stub.Watch(health_pb2.HealthCheckRequest(service=name)) for name in names]
            for watch in (staying, named, leaving):
                assert (await watch.read()).status == SERVING
            leaving.cancel()
            unknown = stub.Watch(health_pb2.HealthCheckRequest(service="humanseg.v1.Nonsense"))
            assert (await unknown.read()).status == SERVICE_UNKNOWN
            async with open_stream(server.target) as stream:
                await stream.config(width=160, height=96, pixel_format=pb.PIXEL_FORMAT_RGB24)
                server.terminate()
                for watch in (staying, named):
                    assert (await watch.read()).status == NOT_SERVING
                await stream.finish()
            for watch in (staying, named, unknown):
                # Not cut off by the stop, which would have waited for them.
                assert await watch.code() == grpc.StatusCode.UNAVAILABLE
                assert await watch.details() == "the server stops"
            assert await asyncio.to_thread(server.wait) == 0
