"""examples/live.py: its page in a real browser with a fake camera, its WebSocket with a real client."""

import struct
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

aiohttp = pytest.importorskip("aiohttp", reason="needs aiohttp: pip install -e '.[examples]'")
imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg: pip install -e '.[examples]'")

from examples.live import FRAME_HEADER, MASK_HEADER  # noqa: E402 - what it imports may be missing
from humanseg.video import VideoWriter, read_rgb  # noqa: E402
from support.halves import assert_mask, make_clip  # noqa: E402
from support.models import write_red_model  # noqa: E402
from support.page import look, needs_browser  # noqa: E402
from support.program import running_page  # noqa: E402
from support.server import ROOT, RunningServer, running_server  # noqa: E402

FFMPEG = str(imageio_ffmpeg.get_ffmpeg_exe())
CLIP = ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"
TRAINED = ROOT / "engines" / "models"
BOTH = {"service": "#service canvas", "browser": "#browser canvas"}
BOTH_SHOW = "figures.service.frames >= 5 && figures.browser.frames >= 5"


async def test_the_gateway_answers_each_jpeg_with_its_mask(server: RunningServer, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "talk.mp4", FFMPEG)
    picture = next(read_rgb(clip))
    whole, jpeg = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert whole
    with running_page("examples.live", "--server", server.target) as url:
        async with aiohttp.ClientSession(url) as session, session.ws_connect("/masks") as socket:
            for frame_id in (1, 2, 5):
                await socket.send_bytes(FRAME_HEADER.pack(frame_id, 320, 180, frame_id * 33.3) + jpeg.tobytes())
                answer = await socket.receive_bytes()
                assert MASK_HEADER.unpack_from(answer) == (frame_id, 320, 180)
                mask = np.frombuffer(answer, np.uint8, offset=MASK_HEADER.size).reshape(180, 320)
                assert_mask(mask, width=320, height=180)
            await socket.send_bytes(FRAME_HEADER.pack(6, 321, 180, 300.0) + jpeg.tobytes())
            dropped = await socket.receive_json()
            assert dropped["dropped"] == 6
            assert "321" in dropped["reason"]
            await socket.send_bytes(FRAME_HEADER.pack(6, 320, 180, 400.0) + jpeg.tobytes())
            assert "frame_id" in (await socket.receive_json())["error"]
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize("message", [b"short", "text", struct.pack("<IHHd", 1, 320, 180, 0.0)])
async def test_a_message_that_is_no_frame_ends_the_connection_with_a_reason(
    server: RunningServer, message: bytes | str
) -> None:
    with running_page("examples.live", "--server", server.target) as url:
        async with aiohttp.ClientSession(url) as session, session.ws_connect("/masks") as socket:
            await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
            assert "where a frame was expected" in (await socket.receive_json())["error"]


class TestInChromium:
    pytestmark = needs_browser

    @pytest.mark.parametrize(("press", "size"), [("#camera", (640, 360)), ("#clip", (272, 480))])
    def test_people_are_cut_out_by_the_service_and_in_the_browser(
        self, server: RunningServer, tmp_path: Path, press: str, size: tuple[int, int]
    ) -> None:
        width, height = size
        camera, clip = (
            make_clip(tmp_path / name, FFMPEG, size=f"{width}x{height}", seconds=2)
            for name in ("camera.y4m", "clip.mp4")
        )
        model = write_red_model(tmp_path / "small.onnx", name="small")
        flags = ("--server", server.target, "--small", str(model), "--clip", str(clip))
        with running_page("examples.live", *flags) as url:
            seen = look(tmp_path, url, camera, press, BOTH_SHOW, BOTH)
        assert seen["console"] == []
        for name in BOTH:
            picture = seen[name]
            assert picture.shape == (height, width, 4), name
            person, room = picture[:, : width // 2 - 24], picture[:, width // 2 + 24 :]
            # To the very border: padding that shows is half transparent.
            assert person[..., 3].min() > 235, name
            assert person[..., 0].min() > 200, name
            assert room[..., 3].max() < 20, name
        # Nothing from anywhere else.
        assert {address.split("/")[2] for address in seen["requests"] if address.startswith("http")} == {url[7:]}

    @pytest.mark.parametrize("model", sorted(TRAINED.glob("*.onnx")), ids=lambda path: path.stem)
    def test_a_trained_model_gives_the_same_in_the_browser(self, tmp_path: Path, model: Path) -> None:
        picture = next(read_rgb(CLIP))
        with VideoWriter(tmp_path / "still.mp4", Fraction(25)) as writer:
            for _ in range(50):
                writer.write(picture)
        flags = ("--small", str(model), "--model", model.stem, "--clip", str(tmp_path / "still.mp4"))
        camera = make_clip(tmp_path / "camera.y4m", FFMPEG)
        with (
            running_server(TRAINED) as server,
            running_page("examples.live", "--server", server.target, *flags) as url,
        ):
            seen = look(tmp_path, url, camera, "#clip", BOTH_SHOW, BOTH)
        by_service, in_browser = (seen[name][..., 3].astype(int) for name in BOTH)
        assert 0.1 < (by_service > 127).mean() < 0.6
        assert np.abs(by_service - in_browser).mean() < 1.5
        both, either = ((by_service > 127) & (in_browser > 127)).sum(), ((by_service > 127) | (in_browser > 127)).sum()
        assert both / either > 0.98

    def test_what_is_missing_is_said_on_the_page(self, tmp_path: Path) -> None:
        camera = make_clip(tmp_path / "camera.y4m", FFMPEG, size="640x360")
        both_failed = "figures.service.error !== null && figures.browser.error !== null"
        with running_page("examples.live", "--server", "127.0.0.1:1", "--small", str(tmp_path / "no.onnx")) as url:
            seen = look(tmp_path, url, camera, "#camera", both_failed, {})
        assert "no no.onnx here; name a model by --small" in seen["text"]
        assert "UNAVAILABLE" in seen["text"]
