"""Sessions beside each other: the same frames give the same bytes, and one in trouble slows nobody."""

import asyncio

import numpy as np
from numpy.typing import NDArray

from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Size
from support.clips import draw_clip
from support.server import RunningServer
from support.stream import Stream, open_stream, open_stub, red_gradient
from support.timing import limit_s

W, H = 320, 180
FRAMES = 14


def clip(seed: int) -> list[NDArray[np.uint8]]:
    """RGB whose red channel is the noisy mask, so that the fusion has something to smooth, on a moving picture."""
    speed = 0.7 * seed - 3
    frames = draw_clip(shifts_px=[speed * index for index in range(FRAMES)], size=Size(W, H), seed=seed)
    red = [np.rint(255 * frame.noisy).astype(np.uint8) for frame in frames]
    return [np.stack([r, frame.gray, frame.gray], -1) for r, frame in zip(red, frames, strict=True)]


async def masks_of(
    server: RunningServer, pictures: list[NDArray[np.uint8]], gate: asyncio.Barrier | None = None, **config: object
) -> list[bytes]:
    async with open_stream(server.target) as stream:
        fields = {"temporal_fusion": pb.TEMPORAL_FUSION_HIGH, "frame_policy": pb.FRAME_POLICY_EVERY, **config}
        await stream.config(width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24, **fields)
        if gate is not None:
            await gate.wait()

        async def send() -> None:
            for index, picture in enumerate(pictures):
                await stream.send(index + 1, picture.tobytes())

        sending = asyncio.ensure_future(send())
        results = [await stream.result() for _ in pictures]
        await sending
        assert await stream.finish() == []
    assert [result.frame_id for result in results] == list(range(1, len(pictures) + 1))
    assert {result.outcome for result in results} == {pb.FRAME_OUTCOME_MASK}
    return [result.mask for result in results]


async def test_the_same_frames_alone_and_among_eight_others_give_the_same_bytes(server: RunningServer) -> None:
    """Fusion has a memory, threads and batches are shared: nothing of one session may reach another."""
    pictures = clip(1)
    alone = await masks_of(server, pictures)
    assert await masks_of(server, pictures) == alone, "the same twice, to begin with"
    raw = await masks_of(server, pictures, temporal_fusion=pb.TEMPORAL_FUSION_OFF)
    assert raw != alone, "the fusion takes part in this test"
    gate = asyncio.Barrier(9)
    others = [masks_of(server, clip(seed), gate) for seed in range(2, 10)]
    async with asyncio.timeout(limit_s(60)):
        among, *strangers = await asyncio.gather(masks_of(server, pictures, gate), *others)
    assert among == alone
    for seed, masks in zip(range(2, 10), strangers, strict=True):
        assert masks != alone
        # Not only ours: the seventh session's are its own as well.
        if seed == 8:
            assert await masks_of(server, clip(seed)) == masks


async def test_sessions_on_one_connection_do_not_mix_either(server: RunningServer) -> None:
    """A proxy puts all its streams on one channel."""
    async with open_stub(server.target) as stub:

        async def session(level: int) -> None:
            stream = Stream(stub.StreamSegment())
            await stream.config(width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24)
            picture = np.full((H, W, 3), level, np.uint8).tobytes()
            for frame_id in range(1, 8):
                await stream.send(frame_id, picture)
                result = await stream.result()
                assert set(result.mask) == {level}
            await stream.finish()

        await asyncio.gather(*(session(20 * index) for index in range(8)))


async def test_a_session_that_floods_and_never_reads_leaves_the_others_their_turns(server: RunningServer) -> None:
    """Newest wins for the flooder too: it holds one frame and one turn, however much it sends."""
    pictures = clip(3)
    alone = await masks_of(server, pictures)
    async with open_stream(server.target) as flooder:
        await flooder.send_config(width=1280, height=720, pixel_format=pb.PIXEL_FORMAT_RGB24)
        picture = red_gradient(1280, 720).tobytes()

        async def flood() -> None:
            for frame_id in range(1, 100_000):
                await flooder.send(frame_id, picture)

        flooding = asyncio.ensure_future(flood())
        before_bytes = server.rss_bytes()
        try:
            for _ in range(3):
                assert await masks_of(server, pictures) == alone
            assert not flooding.done()
        finally:
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
        grown_bytes = server.rss_bytes() - before_bytes
        assert grown_bytes < 150 << 20, f"{grown_bytes >> 20} MiB for one flooder"


async def test_newest_wins_and_every_frame_is_answered_in_order(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        await stream.config(width=1280, height=720, pixel_format=pb.PIXEL_FORMAT_RGB24)
        picture = red_gradient(1280, 720).tobytes()
        for frame_id in range(1, 31):
            await stream.send(frame_id, picture)
        results = await stream.finish()
    assert [result.frame_id for result in results] == list(range(1, 31))
    dropped = [result for result in results if result.outcome == pb.FRAME_OUTCOME_DROPPED]
    assert {result.drop_reason for result in dropped} <= {pb.DROP_REASON_SUPERSEDED}
    assert results[-1].outcome == pb.FRAME_OUTCOME_MASK, "the newest is never superseded"
    for result in results:
        assert bool(result.mask) == (result.outcome == pb.FRAME_OUTCOME_MASK)
        assert result.times.total_us > 0
