"""examples/relay.py with real WebRTC peers, a real server, and none."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="needs aiortc: pip install -e '.[examples]'")
imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg: pip install -e '.[examples]'")

from aiohttp import ClientSession  # noqa: E402 - it may be missing

from examples.peer import call  # noqa: E402 - what it imports may be missing
from humanseg.video import read_rgb  # noqa: E402
from humanseg.vision.arrays import Picture  # noqa: E402
from support.halves import BLUE, RED, assert_halves, make_clip  # noqa: E402
from support.models import write_red_model  # noqa: E402
from support.page import look, needs_browser  # noqa: E402
from support.program import running_page  # noqa: E402
from support.server import RunningServer, running_server  # noqa: E402
from support.timing import limit_s  # noqa: E402

FFMPEG = str(imageio_ffmpeg.get_ffmpeg_exe())
SECONDS = limit_s(60)
#: Frames that must come back.
ENOUGH = 20


async def send(relay: str, clip: Path, codec: str, folder: Path) -> list[Picture]:
    """What comes back until it is enough."""
    saved = folder / f"{codec}.mp4"
    figures = await call(relay, clip, codec=codec, seconds=SECONDS, fps=15, save=saved, enough=ENOUGH)
    assert figures["back"] == ENOUGH, figures
    return list(read_rgb(saved))


@pytest.mark.timeout(limit_s(180))
async def test_two_peers_get_their_people_back_before_the_background(server: RunningServer, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "talk.mp4", FFMPEG, size="320x180", seconds=2)
    with running_page("examples.relay", "--server", server.target, "--background", "#0000ff") as relay:
        both = await asyncio.gather(*(send(relay, clip, codec, tmp_path) for codec in ("VP8", "H264")))
    for pictures in both:
        assert_halves(pictures[-1], RED, BLUE)
        for picture in pictures:
            # From the very first one on: nothing of the room, which is green.
            assert (picture[..., 1].astype(int) - picture[..., 2]).max() < 100


@pytest.mark.timeout(limit_s(180))
async def test_without_a_service_the_background_alone_is_shown(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "talk.mp4", FFMPEG, seconds=2)
    with running_page("examples.relay", "--server", "127.0.0.1:1", "--background", "#0000ff") as relay:
        pictures = await send(relay, clip, "VP8", tmp_path)
    for picture in pictures:
        assert np.abs(np.median(picture.reshape(-1, 3), axis=0) - BLUE).max() <= 12


@pytest.mark.timeout(limit_s(180))
async def test_when_the_service_dies_the_background_alone_is_shown(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "talk.mp4", FFMPEG, seconds=2)
    write_red_model(tmp_path / "medium.onnx")
    with (
        running_server(tmp_path) as server,
        running_page("examples.relay", "--server", server.target, "--background", "#0000ff") as relay,
    ):
        calling = asyncio.create_task(
            call(relay, clip, codec="VP8", seconds=SECONDS, fps=15, save=tmp_path / "back.mp4", enough=4 * ENOUGH)
        )
        await wait_for(relay, "composed", ENOUGH)
        server.process.kill()
        figures = await calling
    assert figures["back"] == 4 * ENOUGH, figures
    pictures = list(read_rgb(tmp_path / "back.mp4"))
    assert_halves(pictures[0], RED, BLUE)
    assert_halves(pictures[-1], BLUE, BLUE)
    for picture in pictures:
        assert (picture[..., 1].astype(int) - picture[..., 2]).max() < 100


@pytest.mark.timeout(limit_s(180))
async def test_when_the_relay_ends_the_peer_says_so(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "talk.mp4", FFMPEG)
    with running_page("examples.relay", "--server", "127.0.0.1:1", "--background", "#0000ff") as relay:
        calling = asyncio.create_task(call(relay, clip, codec="VP8", seconds=SECONDS, fps=15))
        await wait_for(relay, "background_only", ENOUGH)
    with pytest.raises(ConnectionError, match="the relay ended the video"):
        await calling


async def wait_for(relay: str, figure: str, least: int) -> None:
    """Until a figure of the only track there is has come so far."""
    async with asyncio.timeout(SECONDS), ClientSession(relay) as session:
        while True:
            async with session.get("/stats") as answer:
                tracks = await answer.json()
            if tracks and tracks[0][figure] >= least:
                return
            await asyncio.sleep(0.1)


async def test_an_offer_that_is_none_is_refused(server: RunningServer, tmp_path: Path) -> None:
    with running_page("examples.relay", "--server", server.target) as relay:
        async with ClientSession(relay) as session:
            for body, told in [("{", "no offer"), ("{}", "no offer"), ('{"type": "offer", "sdp": "x"}', "no video")]:
                async with session.post("/offer", data=body) as answer:
                    assert answer.status == 400, await answer.text()
                    assert told in await answer.text()


class TestInChromium:
    pytestmark = needs_browser

    def test_the_page_shows_what_comes_back(self, server: RunningServer, tmp_path: Path) -> None:
        camera = make_clip(tmp_path / "camera.y4m", FFMPEG, size="640x360", seconds=2)
        shown = "document.getElementById('back').getVideoPlaybackQuality().totalVideoFrames >= 10"
        with running_page("examples.relay", "--server", server.target, "--background", "#0000ff") as url:
            seen = look(tmp_path, url, camera, "#start", shown, {"back": "#back"})
        assert seen["console"] == []
        assert "connected" in seen["text"]
        # Chromium starts small where the network is unknown to it, and grows.
        back = seen["back"][..., :3]
        assert back.shape[1] * 9 == back.shape[0] * 16
        assert_halves(back, RED, BLUE)
