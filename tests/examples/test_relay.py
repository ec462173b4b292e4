"""examples/relay.py with real WebRTC peers, a real server, and none."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="needs aiortc: pip install -e '.[examples]'")
imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg: pip install -e '.[examples]'")

from examples.peer import call  # noqa: E402 - what it imports may be missing
from humanseg.video import read_rgb  # noqa: E402
from support.halves import BLUE, RED, assert_halves, make_clip  # noqa: E402
from support.program import running_page  # noqa: E402
from support.server import RunningServer  # noqa: E402
from support.timing import limit_s  # noqa: E402

FFMPEG = str(imageio_ffmpeg.get_ffmpeg_exe())
#: Long enough for connection, first key frame and masks on a busy machine.
SECONDS = limit_s(6)


@pytest.mark.timeout(limit_s(180))
async def test_two_peers_get_their_people_back_before_the_background(server: RunningServer, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "talk.mp4", FFMPEG, size="320x180", seconds=2)
    with running_page("examples.relay", "--server", server.target, "--background", "#0000ff") as relay:
        figures = await asyncio.gather(
            *(call(relay, clip, codec, SECONDS, 15, tmp_path / f"{codec}.mp4") for codec in ("VP8", "H264"))
        )
    for codec, seen in zip(("VP8", "H264"), figures, strict=True):
        assert isinstance(seen["back"], int)
        assert seen["back"] >= 10, seen
        pictures = list(read_rgb(tmp_path / f"{codec}.mp4"))
        assert_halves(pictures[-1], RED, BLUE)
        for picture in pictures:
            # From the very first one on: nothing of the room, which is green.
            assert (picture[..., 1].astype(int) - picture[..., 2]).max() < 100


@pytest.mark.timeout(limit_s(180))
async def test_without_a_service_the_background_alone_is_shown(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "talk.mp4", FFMPEG, seconds=2)
    with running_page("examples.relay", "--server", "127.0.0.1:1", "--background", "#0000ff") as relay:
        figures = await call(relay, clip, "VP8", SECONDS, 15, tmp_path / "back.mp4")
    assert isinstance(figures["back"], int)
    assert figures["back"] >= 5, figures
    for picture in read_rgb(tmp_path / "back.mp4"):
        assert np.abs(np.median(picture.reshape(-1, 3), axis=0) - BLUE).max() <= 12


async def test_an_offer_that_is_none_is_refused(server: RunningServer, tmp_path: Path) -> None:
    from aiohttp import ClientSession

    with running_page("examples.relay", "--server", server.target) as relay:
        async with ClientSession(relay) as session:
            for body, told in [("{", "no offer"), ("{}", "no offer"), ('{"type": "offer", "sdp": "x"}', "no video")]:
                async with session.post("/offer", data=body) as answer:
                    assert answer.status == 400, await answer.text()
                    assert told in await answer.text()
