"""``python -m examples.live``: a page that shows a camera or a clip with masks live, by the service and in the browser.

The gateway is thin: frames come as JPEG over a WebSocket and go on as they are; masks go back as they are.

WebSocket ``/masks``, little endian. From the page, a binary message a frame: u32 id, u16 width, u16 height, f64 capture
time in ms, then the JPEG. To the page, in the order sent: a binary message a mask (u32 id, u16 width, u16 height, then
the mask, a byte a pixel), or JSON ``{"dropped": id, "reason": ...}``; ``{"error": text}`` before the end.
"""

import argparse
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from aiohttp import WSMsgType, web

from examples.tasks import first_end
from humanseg.answers import Dropped, MaskAnswer
from humanseg.client import SegmentationClient
from humanseg.errors import SegmentationError
from humanseg.frames import PixelFormat
from humanseg.session_config import SessionConfig
from humanseg.stream import SegmentationStream
from humanseg.vision.arrays import Size

CHECKOUT = Path(__file__).parent.parent
WEB = Path(__file__).parent / "web"
ONNX_RUNTIME = WEB / "node_modules" / "onnxruntime-web" / "dist"
SMALL = CHECKOUT / "engines" / "models" / "small.onnx"
CLIP = CHECKOUT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"

FRAME_HEADER = struct.Struct("<IHHd")
MASK_HEADER = struct.Struct("<IHH")
#: A JPEG of a full HD frame is a tenth of it.
_LARGEST_MESSAGE_BYTES = 8 << 20

EXAMPLES = """examples:
  python -m examples.live                           then open http://127.0.0.1:8080
  python -m examples.live --clip talk.mp4 --small my.onnx

The right half of the page runs a model in the browser, by onnxruntime-web: `npm ci --prefix examples/web` fetches it.
A browser gives its camera to pages of this machine or of https only.
"""


class Gateway:
    """Carries frames and masks between a page's WebSocket and a stream of the service."""

    def __init__(self, client: SegmentationClient, model: str) -> None:
        self._client = client
        self._model = model

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """One page's connection; it ends with the page's, or with an error that the page is told."""
        socket = web.WebSocketResponse(max_msg_size=_LARGEST_MESSAGE_BYTES)
        await socket.prepare(request)
        try:
            await self._carry(socket)
        except (SegmentationError, ValueError) as error:
            if not socket.closed:
                await socket.send_json({"error": str(error)})
        await socket.close()
        return socket

    async def _carry(self, socket: web.WebSocketResponse) -> None:
        first = await _next_frame(socket)
        if first is None:
            return
        config = SessionConfig(size=first[1], pixel_format=PixelFormat.JPEG, model=self._model, label="live page")
        async with self._client.stream(config) as stream:
            await first_end(_to_service(socket, stream, first), _to_page(stream, socket))


#: Id, size, capture time in microseconds, JPEG.
_Frame = tuple[int, Size, int, bytes]


async def _next_frame(socket: web.WebSocketResponse) -> _Frame | None:
    """The page's next frame; None where it has gone.

    Raises:
        ValueError: a message that is no frame.
    """
    message = await socket.receive()
    if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
        return None
    if message.type is not WSMsgType.BINARY or len(message.data) <= FRAME_HEADER.size:
        raise ValueError(
            f"a {message.type.name} message where a frame was expected: {FRAME_HEADER.size} bytes and JPEG"
        )
    frame_id, width, height, time_ms = FRAME_HEADER.unpack_from(message.data)
    return frame_id, Size(width, height), round(time_ms * 1000), message.data[FRAME_HEADER.size :]


async def _to_service(socket: web.WebSocketResponse, stream: SegmentationStream, frame: _Frame | None) -> None:
    while frame is not None:
        frame_id, size, time_us, picture = frame
        await stream.send(picture, frame_id=frame_id, size=size, capture_time_us=time_us)
        frame = await _next_frame(socket)


async def _to_page(stream: SegmentationStream, socket: web.WebSocketResponse) -> None:
    async for answer in stream:
        match answer:
            case MaskAnswer():
                height, width = answer.alpha8.shape
                await socket.send_bytes(MASK_HEADER.pack(answer.frame_id, width, height) + answer.alpha8.tobytes())
            case Dropped():
                await socket.send_json({"dropped": answer.frame_id, "reason": answer.detail or answer.reason.name})


def make_app(server: str, model: str, small: Path, clip: Path) -> web.Application:
    """The page, what it loads, and the WebSocket."""

    async def serve_gateway(app: web.Application) -> AsyncIterator[None]:
        async with SegmentationClient(server) as client:
            app.router.add_get("/masks", Gateway(client, model).serve)
            yield

    def give(path: Path, advice: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handler(request: web.Request) -> web.StreamResponse:
            file = path / request.match_info["name"] if "name" in request.match_info else path
            if not file.is_file():
                raise web.HTTPNotFound(text=f"no {file.name} here; {advice}")
            return web.FileResponse(file)

        return handler

    async def isolate(request: web.Request, response: web.StreamResponse) -> None:
        # A page of its own process: only such a one may use several threads for WebAssembly.
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers["Cross-Origin-Embedder-Policy"] = "require-corp"
        response.headers["Cache-Control"] = "no-cache"

    app = web.Application()
    app.router.add_get("/", give(WEB / "live.html", "the checkout is not whole"))
    app.router.add_get("/{name:[a-z_]+[.](?:mjs|css)}", give(WEB, "the checkout is not whole"))
    app.router.add_get("/ort/{name:[a-z.-]+}", give(ONNX_RUNTIME, "run `npm ci --prefix examples/web`"))
    app.router.add_get("/small.onnx", give(small, "name a model by --small"))
    app.router.add_get("/clip", give(clip, "name a video by --clip"))
    app.on_response_prepare.append(isolate)
    app.cleanup_ctx.append(serve_gateway)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.live",
        description="Show a camera or a clip with masks live, by the service and in the browser itself.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--server", default="127.0.0.1:50051", metavar="HOST:PORT", help="service; default %(default)s")
    parser.add_argument("--model", default="", metavar="NAME", help="the service's model; default: the server's own")
    parser.add_argument("--small", type=Path, default=SMALL, metavar="ONNX", help="the browser's model")
    parser.add_argument("--clip", type=Path, default=CLIP, metavar="VIDEO", help="the sample clip")
    parser.add_argument("--host", default="127.0.0.1", help="address of the page (default %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port of the page (default %(default)s)")
    options = parser.parse_args(arguments)
    for path, advice in (
        (options.small, "the browser's half of the page will not run; name a model by --small"),
        (options.clip, "the page has no sample clip; name a video by --clip"),
        (ONNX_RUNTIME, "the browser's half of the page will not run; `npm ci --prefix examples/web` fetches it"),
    ):
        if not path.exists():
            print(f"{path}: not there; {advice}", file=sys.stderr)
    try:
        web.run_app(
            make_app(options.server, options.model, options.small, options.clip), host=options.host, port=options.port
        )
    except OSError as error:
        print(f"cannot listen on {options.host}:{options.port}: {error.strerror}; choose a --port", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
