"""How streams end that nobody wants to end: old age, SIGTERM under load, a client that is gone or only seems there."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil
import pytest

from humanseg import (
    Dropped,
    FramePolicy,
    MaskAnswer,
    Notice,
    SegmentationClient,
    SegmentationError,
    SegmentationStream,
    ServerDrainingError,
    SessionConfig,
    Size,
    TemporalFusion,
)
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.v1 import segmentation_pb2_grpc as pb_grpc
from support.models import write_slow_model
from support.server import ROOT, running_server
from support.stream import Stream, open_stream, open_stub, red_gradient
from support.timing import limit_s

RGB = pb.PIXEL_FORMAT_RGB24
W, H = 160, 96
GOOD = red_gradient(W, H).tobytes()


async def test_a_stream_of_the_greatest_age_is_told_and_ended(models_folder: Path) -> None:
    with running_server(models_folder, "--max-stream-age-s", "2", "--age-notice-s", "1") as server:
        async with open_stream(server.target) as stream:
            accepted = await stream.config(width=W, height=H, pixel_format=RGB)
            assert accepted.limits.max_stream_age.ToTimedelta().total_seconds() == 2
            notice = (await stream.read()).notice
            assert notice.reason == pb.NOTICE_REASON_MAX_AGE
            assert 0 < notice.time_left.ToTimedelta().total_seconds() <= 1
            await stream.send(1, GOOD)
            assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK, "served until the end"
            ending = await stream.ending()
        assert (ending.code, ending.reason) == (grpc.StatusCode.UNAVAILABLE, "MAX_AGE")
        assert ending.retry is not None
        async with open_stream(server.target) as next_one:
            await next_one.config(width=W, height=H, pixel_format=RGB)


@dataclass
class Sender:
    """A client that sends as fast as it is let, until it is cut off, and what it saw."""

    policy: FramePolicy
    answered: list[int] = field(default_factory=list)
    notices: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    ended_by: SegmentationError | None = None

    async def run(self, client: SegmentationClient, label: str) -> None:
        config = SessionConfig(
            Size(W, H), frame_policy=self.policy, label=label, temporal_fusion=TemporalFusion.OFF
        )  # fmt: skip
        async with client.stream(config) as stream:
            sending = asyncio.ensure_future(self._send(stream))
            try:
                async for answer in stream:
                    if isinstance(answer, MaskAnswer | Dropped):
                        self.answered.append(answer.frame_id)
                    self.notices += isinstance(answer, Notice)
                    if len(self.answered) > 3:
                        self.enough.set()
            except SegmentationError as error:
                self.ended_by = error
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, stream: SegmentationStream) -> None:
        while True:
            await stream.send(GOOD)
            # Live video comes at a pace; without one NEWEST would only measure how fast frames can be dropped.
            await asyncio.sleep(0.002 if self.policy is FramePolicy.NEWEST else 0)


async def test_sigterm_under_load_leaves_no_accepted_frame_unanswered(tmp_path: Path) -> None:
    """Eight clients go on sending until they are cut off, at more than the engine can do."""
    write_slow_model(tmp_path / "medium.onnx", name="medium", side=500)
    senders = [Sender(policy) for policy in [FramePolicy.EVERY, FramePolicy.NEWEST] * 4]
    with running_server(tmp_path, "--drain-s", "0.7") as server:
        async with SegmentationClient(server.target) as client, asyncio.timeout(limit_s(60)):
            running = [asyncio.ensure_future(s.run(client, f"client-{i}")) for i, s in enumerate(senders)]
            for sender in senders:
                await sender.enough.wait()
            server.terminate()
            await asyncio.gather(*running)
        assert await asyncio.to_thread(server.wait, 20) == 0
    assert "event=stopped sessions_cut=0" in server.log()
    for index, sender in enumerate(senders):
        assert sender.notices == 1
        assert isinstance(sender.ended_by, ServerDrainingError)
        assert sender.answered == list(range(1, len(sender.answered) + 1)), "no gap: what is missing was never taken"
        (line,) = (line for line in server.log_lines if "session_closed" in line and f"label=client-{index} " in line)
        frames, masks, drops = (int(re.findall(rf" {name}=(\d+)", line)[0]) for name in ("frames", "masks", "drops"))
        assert frames == masks + drops == len(sender.answered), line


async def test_cancelled_streams_leave_nothing_behind(tmp_path: Path) -> None:
    """In the engine, in its queue, in the backlog: wherever their frames are, cancellation frees them at once."""
    write_slow_model(tmp_path / "medium.onnx", name="medium", side=300)
    with running_server(tmp_path) as server:
        process = psutil.Process(server.process.pid)

        async def round_of_streams() -> None:
            async with open_stub(server.target) as stub:
                streams = [Stream(stub.StreamSegment()) for _ in range(12)]
                for stream in streams:
                    await stream.config(width=W, height=H, pixel_format=RGB, frame_policy=pb.FRAME_POLICY_EVERY)
                    for frame_id in (1, 2, 3, 4):
                        await stream.send(frame_id, GOOD)
                await streams[0].result()
                for stream in streams:
                    stream.call.cancel()
                await asyncio.to_thread(server.wait_for_metric, 0, "humanseg_sessions_active")

        await round_of_streams()
        descriptors, threads = process.num_fds(), process.num_threads()
        for _ in range(2):
            await round_of_streams()
        assert process.num_threads() <= threads + 2, "grpc's own pool breathes"
        assert process.num_fds() <= descriptors + 2
        async with open_stream(server.target) as stream:
            await stream.config(width=W, height=H, pixel_format=RGB)
            await stream.send(1, GOOD)
            assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK
    assert "level=error" not in server.log()


IDLE_CLIENT = """
import asyncio, sys
from humanseg.v1 import segmentation_pb2 as pb
from support.stream import open_stream

async def main():
    async with open_stream(sys.argv[1]) as stream:
        await stream.config(width=160, height=96, pixel_format=pb.PIXEL_FORMAT_RGB24)
        print("open", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


def start(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


async def test_a_client_that_hangs_is_found_by_pings(models_folder: Path) -> None:
    """Its kernel keeps the connection alive, but nobody answers: as a laptop that was closed."""
    flags = ("--keepalive-s", "0.5", "--keepalive-timeout-s", "0.5", "--idle-timeout-s", "3600")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with running_server(models_folder, *flags) as server:
        command = [sys.executable, "-c", IDLE_CLIENT, server.target]
        with start(command, environment) as client:
            assert client.stdout is not None
            assert await asyncio.to_thread(client.stdout.readline) == "open\n"
            await asyncio.sleep(1.5)
            assert server.metric("humanseg_sessions_active") == 1, "one that answers pings may be silent"
            client.send_signal(signal.SIGSTOP)
            try:
                await asyncio.to_thread(server.wait_for_metric, 0, "humanseg_sessions_active")
            finally:
                client.send_signal(signal.SIGCONT)
                client.kill()


@pytest.mark.parametrize(("least_s", "interval_ms", "survives"), [("0.1", 500, True), ("5", 100, False)])
async def test_pings_of_a_client(models_folder: Path, least_s: str, interval_ms: int, survives: bool) -> None:
    """At the interval that the server allows they keep a silent stream alive; a flood of them ends the connection."""
    options = [
        ("grpc.keepalive_time_ms", interval_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with running_server(models_folder, "--min-ping-interval-s", least_s) as server:
        async with grpc.aio.insecure_channel(server.target, options=options) as channel:
            stream = Stream(pb_grpc.SegmentationServiceStub(channel).StreamSegment())
            await stream.config(width=W, height=H, pixel_format=RGB)
            if survives:
                await asyncio.sleep(4.5)  # on its default gRPC cuts off after the fourth ping within five minutes
                await stream.send(1, GOOD)
                assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK
                stream.call.cancel()
            else:
                ending = await stream.ending()
                assert ending.code == grpc.StatusCode.UNAVAILABLE
                assert ending.message.lower().replace("_", " ") == "too many pings"
