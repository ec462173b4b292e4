"""A stream that moves from one real server to another in mid-clip: its masks show no seam."""

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from humanseg import (
    ClientOptions,
    FramePolicy,
    InvalidRequestError,
    MaskAnswer,
    Notice,
    NoticeReason,
    ResumeOutcome,
    ResumePoint,
    SegmentationClient,
    SegmentationStream,
    ServerUnavailableError,
    SessionConfig,
    Size,
    StateReset,
)
from humanseg.video import read_rgb
from humanseg.vision.arrays import Alpha8, Picture
from service.settings import DEFAULT_MODELS
from support.balancer import running_balancer
from support.clips import trembling_pictures
from support.server import ROOT, running_server
from support.timing import limit_s

W, H = 320, 180
FRAME_US = 33_333
CONFIG = SessionConfig(Size(W, H), frame_policy=FramePolicy.EVERY)
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "resume"
    path.write_text(KEY)
    return path


def clip(count: int) -> list[Picture]:
    return trembling_pictures(count, Size(W, H))


async def play(stream: SegmentationStream, pictures: list[Picture], first: int = 0) -> list[MaskAnswer]:
    """Send and take one after the other."""
    masks = []
    async with asyncio.timeout(limit_s(60)):
        for index, picture in enumerate(pictures, first):
            await stream.send(picture, capture_time_us=(index + 1) * FRAME_US)
            while isinstance(answer := await anext(stream), Notice):
                pass
            assert isinstance(answer, MaskAnswer), answer
            masks.append(answer)
    return masks


async def rest_of(stream: SegmentationStream) -> list[object]:
    await stream.finish()
    async with asyncio.timeout(limit_s(20)):
        return [answer async for answer in stream]


def seam(moved: Alpha8, stayed: Alpha8) -> NDArray[np.int_]:
    return np.abs(moved.astype(int) - stayed)


async def test_a_drained_stream_goes_on_elsewhere_as_if_it_had_stayed(key_file: Path) -> None:
    """The real model on the real clip. docs/protocol.md states the tolerance: below 0.5 gray levels on average."""
    pictures = list(itertools.islice(read_rgb(ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"), 30))
    pictures = [picture if isinstance(picture, np.ndarray) else picture.picture for picture in pictures]
    config = replace(CONFIG, size=Size(640, 360))
    flags = ("--resume-key-file", str(key_file))
    with running_server(DEFAULT_MODELS, *flags) as first, running_server(DEFAULT_MODELS, *flags) as second:
        async with SegmentationClient(first.target) as here, SegmentationClient(second.target) as there:
            async with there.stream(config) as stream:
                stayed = [answer.alpha8.copy() for answer in await play(stream, pictures)]
            async with here.stream(config) as stream:
                await play(stream, pictures[:20])
                assert stream.resume_point is None, "nobody asked for one"
                first.terminate()
                notice = await anext(stream)
                assert isinstance(notice, Notice)
                assert isinstance(stream.resume_point, ResumePoint)
                assert stream.resume_point.frame_id == 20, "there before the notice"
                # A frame later the client has ended what was under way, and has the state of that one.
                await play(stream, pictures[20:21], first=20)
                assert await rest_of(stream) == []
                point = stream.resume_point
            assert point.frame_id == 21
            assert len(point.token) <= 40 * 1024
            async with there.stream(config, resume=point) as stream:
                assert stream.accepted.resume is ResumeOutcome.RESUMED
                answers = await play(stream, pictures[21:], first=21)
            assert answers[0].reset is None
            moved = [answer.alpha8.copy() for answer in answers]
            async with there.stream(config) as stream:
                cold = await play(stream, pictures[21:], first=21)
            assert cold[0].reset is StateReset.FIRST_FRAME
        assert await asyncio.to_thread(first.wait) == 0
        assert second.metric("humanseg_resumes_total", outcome="resumed") == 1
    seams = [seam(mask, reference).mean() for mask, reference in zip(moved, stayed[21:], strict=True)]
    assert max(seams) < 0.5, seams
    assert seam(cold[0].alpha8, stayed[21]).mean() > 3 * seams[0], "the past counts in this test"


async def test_a_token_of_no_use_starts_anew_and_says_why(models_folder: Path, key_file: Path) -> None:
    with running_server(models_folder, "--resume-key-file", str(key_file), "--resume-max-age-s", "2") as server:
        async with SegmentationClient(server.target) as client:
            async with client.stream(replace(CONFIG, resume_interval_s=1)) as stream:
                await play(stream, clip(2))
                await asyncio.sleep(1)
                await play(stream, clip(3)[2:], first=2)
                await rest_of(stream)
                point = stream.resume_point
            assert point is not None
            assert point.frame_id == 3, "asked for every second"

            async def outcome(token: bytes, **changes: object) -> ResumeOutcome | None:
                config = replace(CONFIG, **changes)  # type: ignore[arg-type]
                async with client.stream(config, resume=ResumePoint(token, 3)) as resumed:
                    seen = resumed.accepted.resume
                    # Whatever became of the token, the stream works.
                    (mask,) = await play(resumed, [np.zeros((*config.size.shape, 3), np.uint8)], first=3)
                    if seen is not ResumeOutcome.RESUMED:
                        assert mask.reset is StateReset.FIRST_FRAME
                    elif config.size != CONFIG.size:
                        assert mask.reset is StateReset.SIZE
                    return seen

            assert await outcome(point.token) is ResumeOutcome.RESUMED
            assert await outcome(point.token, size=Size(96, 160)) is ResumeOutcome.RESUMED
            assert await outcome(point.token, model="faulty") is ResumeOutcome.OTHER_MODEL
            assert await outcome(point.token[:-1] + b"?") is ResumeOutcome.NOT_AUTHENTIC
            assert await outcome(b"\x07" + point.token[1:]) is ResumeOutcome.OTHER_VERSION
            assert await outcome(b"nonsense") is ResumeOutcome.MALFORMED
            await asyncio.sleep(2)
            assert await outcome(point.token) is ResumeOutcome.EXPIRED
            async with client.stream(CONFIG) as stream:
                assert stream.accepted.resume is None
            with pytest.raises(InvalidRequestError, match="resume_interval"):
                async with client.stream(replace(CONFIG, resume_interval_s=0.2)):
                    pass
    assert "level=error" not in server.log()
    assert KEY not in server.log()


async def test_masks_of_a_clip_cross_a_rolling_update_unnoticed(models_folder: Path, key_file: Path) -> None:
    """Each frame its mask, in order; the first replica goes in mid-clip, and the next one has no reset to report."""
    flags = ("--resume-key-file", str(key_file))
    pictures = clip(60)
    with running_server(models_folder, *flags) as first, running_server(models_folder, *flags) as second:
        async with running_balancer() as balancer, asyncio.timeout(limit_s(100)):
            balancer.port_behind = first.port
            seen: list[Picture] = []
            masks: list[Alpha8] = []
            async with SegmentationClient(balancer.target) as client:
                async for frame, alpha8 in client.masks(pictures):
                    seen.append(frame)
                    masks.append(alpha8.copy())
                    if len(seen) == 20:
                        balancer.port_behind = second.port
                        first.terminate()
            assert await asyncio.to_thread(first.wait) == 0
            async with SegmentationClient(second.target) as client:
                stayed = [alpha8.copy() async for _, alpha8 in client.masks(pictures)]
        assert second.metric("humanseg_resumes_total", outcome="resumed") == 1
        assert second.metric("humanseg_fusion_resets_total", reason="first_frame") == 1, "the second clip's"
    assert len(seen) == len(pictures)
    assert all(one is other for one, other in zip(seen, pictures, strict=True))
    assert max(seam(mask, reference).mean() for mask, reference in zip(masks, stayed, strict=True)) < 0.5
    assert "event=stopped sessions_cut=0" in first.log()


async def test_masks_of_a_clip_survive_a_replica_that_is_killed(models_folder: Path, key_file: Path) -> None:
    """kill -9 leaves no time for a token: the frames without an answer are sent again, and none is missing."""
    flags = ("--resume-key-file", str(key_file))
    pictures = clip(40)
    with running_server(models_folder, *flags) as first, running_server(models_folder, *flags) as second:
        async with running_balancer() as balancer, asyncio.timeout(limit_s(100)):
            balancer.port_behind = first.port
            seen = []
            async with SegmentationClient(balancer.target) as client:
                async for frame, _ in client.masks(pictures):
                    seen.append(frame)
                    if len(seen) == 15:
                        balancer.port_behind = second.port
                        first.process.kill()
    assert all(one is other for one, other in zip(seen, pictures, strict=True))


async def test_without_patience_a_lost_server_is_an_error(models_folder: Path) -> None:
    with running_server(models_folder) as server:
        options = ClientOptions(reconnect_s=0)
        async with SegmentationClient(server.target, options=options) as client:
            with pytest.raises(ServerUnavailableError):
                async for _ in client.masks(clip(40)):
                    server.process.kill()


async def test_a_stream_of_the_greatest_age_leaves_a_token(models_folder: Path) -> None:
    with running_server(models_folder, "--max-stream-age-s", "2", "--age-notice-s", "1") as server:
        assert "event=resume_key_random" in server.log()
        async with SegmentationClient(server.target) as client, client.stream(CONFIG) as stream:
            await play(stream, clip(2))
            async with asyncio.timeout(limit_s(20)):
                notice = await anext(stream)
            assert isinstance(notice, Notice)
            assert notice.reason is NoticeReason.MAX_AGE
            await rest_of(stream)
            async with client.stream(CONFIG, resume=stream.resume_point) as following:
                assert following.accepted.resume is ResumeOutcome.RESUMED
                (mask,) = await play(following, clip(3)[2:], first=2)
                assert mask.reset is None
