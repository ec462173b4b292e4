"""Traffic of every kind for several servers at once, counted by the side that sends it."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import grpc
from google.protobuf.duration_pb2 import Duration

from humanseg.v1 import segmentation_pb2 as pb
from humanseg.v1 import segmentation_pb2_grpc as pb_grpc
from support.stream import Stream, open_stub, red_gradient
from support.timing import limit_s

TOKEN = "a-token-for-the-mixed-load-alone"
METADATA = (("authorization", f"Bearer {TOKEN}"),)
W, H = 160, 96
PICTURE = red_gradient(W, H).tobytes()
JPEG = bytes(cv2.imencode(".jpg", red_gradient(W, H))[1])
FPS = 10
#: Frames that come at once, twice a second: the newest wins, so that some are superseded.
BURST = 8
#: Every so many frames one is too short.
BROKEN_EVERY = 5
#: Streams that come and go end so long before the others: a scrape has to see those alone.
CALM_S = 2.0


@dataclass
class MixedLoad:
    """What was sent; times are Unix time."""

    #: Of each answer to a frame, whatever it says.
    answers_s: list[float] = field(default_factory=list)
    #: Of those, to frames that were broken.
    broken_s: list[float] = field(default_factory=list)
    admitted: int = 0
    refused: int = 0
    stills: int = 0
    #: When the last frame was sent; the long streams were open up to then.
    end_s: float = 0.0
    long_streams: int = 0

    def count(self, result: pb.FrameResult) -> None:
        now_s = time.time()
        self.answers_s.append(now_s)
        if result.drop_reason == pb.DROP_REASON_WRONG_BYTE_COUNT:
            self.broken_s.append(now_s)


def per_second(times_s: Sequence[float], until_s: float, window_s: float) -> float:
    """Events a second in the window that ends there."""
    return sum(until_s - window_s < one <= until_s for one in times_s) / window_s


def write_tokens(path: Path) -> Path:
    """The file that lets this load in."""
    path.write_text(f"{hashlib.sha256(TOKEN.encode()).hexdigest()} mixed 1000\n")
    return path


async def send_mixed_load(targets: Sequence[str], seconds: float) -> MixedLoad:
    """Long streams of both policies, streams that come and go, stills, refused calls, and drops, on each target."""
    load = MixedLoad(end_s=time.time() + seconds)
    async with asyncio.TaskGroup() as tasks:
        for target in targets:
            tasks.create_task(_load_one(target, load))
    return load


async def _load_one(target: str, load: MixedLoad) -> None:
    async with open_stub(target) as stub, asyncio.TaskGroup() as tasks:
        for policy, burst, fps, broken_every in (
            (pb.FRAME_POLICY_NEWEST, 1, FPS, 0),
            (pb.FRAME_POLICY_NEWEST, 1, FPS, BROKEN_EVERY),
            (pb.FRAME_POLICY_NEWEST, BURST, 2, 0),
            (pb.FRAME_POLICY_EVERY, 1, FPS, 0),
        ):
            load.long_streams += 1
            tasks.create_task(_long(stub, load, policy, burst, fps, broken_every))
        tasks.create_task(_come_and_go(stub, load))


async def _open(stub: "pb_grpc.SegmentationServiceAsyncStub", load: MixedLoad, **config: object) -> Stream:
    stream = Stream(stub.StreamSegment(metadata=METADATA))
    await stream.config(width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24, **config)
    load.admitted += 1
    return stream


async def _long(
    stub: "pb_grpc.SegmentationServiceAsyncStub",
    load: MixedLoad,
    policy: "pb.FramePolicy.ValueType",
    burst: int,
    fps: int,
    broken_every: int,
) -> None:
    stream = await _open(stub, load, frame_policy=policy, resume_interval=Duration(seconds=1))
    start_s, frame_id = time.time(), 0

    async def read() -> None:
        while (answer := await stream.call.read()) is not grpc.aio.EOF:
            if answer.WhichOneof("message") == "result":
                load.count(answer.result)

    async with asyncio.timeout(limit_s(60)), asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        for tick in range(round((load.end_s - start_s) * fps)):
            await asyncio.sleep(start_s + tick / fps - time.time())
            for _ in range(burst):
                frame_id += 1
                is_broken = broken_every and frame_id % broken_every == 0
                await stream.send(frame_id, PICTURE[:-1] if is_broken else PICTURE)
        await asyncio.sleep(load.end_s - time.time())
        await stream.call.done_writing()


async def _come_and_go(stub: "pb_grpc.SegmentationServiceAsyncStub", load: MixedLoad) -> None:
    while time.time() < load.end_s - CALM_S:
        stream = await _open(stub, load, resume_token=b"of nobody", frame_policy=pb.FRAME_POLICY_EVERY)
        for frame_id in (1, 2):
            await stream.send(frame_id, PICTURE)
        for result in await stream.finish():
            load.count(result)
        await stub.Segment(pb.SegmentRequest(picture=JPEG), metadata=METADATA)
        load.stills += 1
        ending = await Stream(stub.StreamSegment()).ending()
        assert ending.code == grpc.StatusCode.UNAUTHENTICATED
        load.refused += 1
        await asyncio.sleep(0.3)
