"""``python -m examples.relay``: a WebRTC peer's video comes in, the background is replaced, and it goes back.

Open the page it names in a browser, or point a peer's offer at ``POST /offer``. ``GET /stats`` has figures.
"""

import argparse
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from aiohttp import web
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack

from examples.backdrop import Backdrop
from examples.replaced_track import ReplacedTrack
from humanseg.backgrounds import background_argument
from humanseg.client import SegmentationClient
from humanseg.errors import SegmentationError

log = logging.getLogger("relay")

PAGE = Path(__file__).parent / "web" / "relay.html"

EXAMPLES = """examples:
  python -m examples.relay                                  then open http://127.0.0.1:8080
  python -m examples.relay --background beach.jpg --port 9000
  python -m examples.relay --stun stun:HOST:PORT            for peers behind another router

A browser gives its camera to pages of this machine or of https only. Sound goes back as it came.
While there is no service, the background alone is sent; a frame without a mask is not sent at all.
"""


class Relay:
    """The peers and what is done with their tracks."""

    def __init__(self, client: SegmentationClient, backdrop: Backdrop, model: str, stun: str | None) -> None:
        self._client = client
        self._backdrop = backdrop
        self._model = model
        self._ice = RTCConfiguration([] if stun is None else [RTCIceServer(stun)])
        self._peers: dict[RTCPeerConnection, list[ReplacedTrack]] = {}

    async def offer(self, request: web.Request) -> web.Response:
        """Answer a peer's offer, ``{"type": "offer", "sdp": ...}``."""
        try:
            offer = await request.json()
            description = RTCSessionDescription(sdp=offer["sdp"], type=offer["type"])
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text=f'no offer: {error!r}; send {{"type": "offer", "sdp": "..."}}') from None
        peer = RTCPeerConnection(self._ice)
        self._peers[peer] = []

        @peer.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            if track.kind == "video":
                replaced = ReplacedTrack(track, self._client, self._backdrop, self._model)
                self._peers[peer].append(replaced)
                peer.addTrack(replaced)
            else:
                peer.addTrack(track)

        @peer.on("connectionstatechange")
        async def on_change() -> None:
            log.info("peer %x is %s", id(peer), peer.connectionState)
            if peer.connectionState in ("failed", "closed"):
                await self._end(peer)

        try:
            await peer.setRemoteDescription(description)
            if not self._peers[peer]:
                raise ValueError("it holds no video")
            await peer.setLocalDescription(await peer.createAnswer())
        except ValueError as error:
            await self._end(peer)
            raise web.HTTPBadRequest(text=f"the offer cannot be answered: {error}") from None
        answer = peer.localDescription
        return web.json_response({"type": answer.type, "sdp": answer.sdp})

    async def stats(self, request: web.Request) -> web.Response:
        """Figures of each track of the peers there are."""
        return web.json_response([track.stats.to_json() for tracks in self._peers.values() for track in tracks])

    async def aclose(self) -> None:
        """End all peers."""
        for peer in list(self._peers):
            await self._end(peer)

    async def _end(self, peer: RTCPeerConnection) -> None:
        for track in self._peers.pop(peer, []):
            log.info("track ended: %s", track.stats.to_json())
            track.stop()
        await peer.close()


def make_app(server: str, backdrop: Backdrop, model: str, stun: str | None) -> web.Application:
    """The page, the offers and the figures."""

    async def serve_relay(app: web.Application) -> AsyncIterator[None]:
        async with SegmentationClient(server) as client:
            try:
                await client.list_models()
            except SegmentationError as error:
                log.warning("%s: %s; until it answers, peers see the background alone", server, error)
            relay = Relay(client, backdrop, model, stun)
            app.router.add_post("/offer", relay.offer)
            app.router.add_get("/stats", relay.stats)
            yield
            await relay.aclose()

    async def page(request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE)

    app = web.Application()
    app.router.add_get("/", page)
    app.cleanup_ctx.append(serve_relay)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.relay",
        description="Replace the background of WebRTC peers' video and send it back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--background", type=background_argument, default="blur", metavar="blur|#rrggbb|IMAGE", help="default blur"
    )
    parser.add_argument("--server", default="127.0.0.1:50051", metavar="HOST:PORT", help="service; default %(default)s")
    parser.add_argument("--model", default="", metavar="NAME", help="default: the server's own")
    parser.add_argument("--host", default="127.0.0.1", help="address of the page (default %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port of the page (default %(default)s)")
    parser.add_argument("--stun", metavar="URL", help="STUN server that tells peers behind routers their addresses")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    log.setLevel(logging.INFO)
    app = make_app(options.server, Backdrop(options.background), options.model, options.stun)
    try:
        web.run_app(app, host=options.host, port=options.port)
    except OSError as error:
        print(f"cannot listen on {options.host}:{options.port}: {error.strerror}; choose a --port", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
