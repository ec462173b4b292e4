"""``python -m examples.peer``: a WebRTC peer without a browser. Sends a clip to the relay and measures what comes back.

Prints one JSON line; exit status: 0 pictures came back, 1 none did, or it could not be done, 2 usage.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

from aiohttp import ClientError, ClientSession
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import VideoFrame

from humanseg.threads import run_to_end
from humanseg.video import VideoError, VideoReader, VideoWriter
from humanseg.vision.arrays import Picture

CLOCK_HZ = 90_000

EXAMPLES = """examples:
  python -m examples.peer talk.mp4                       ten seconds at 30 frames a second, VP8
  python -m examples.peer --codec H264 --seconds 60 --save back.mp4 talk.mp4
"""


class ClipTrack(MediaStreamTrack):
    """A clip, again and again, at an even pace whatever its own frame rate is."""

    kind = "video"

    def __init__(self, path: Path, fps: int) -> None:
        super().__init__()
        self.sent = 0
        self._fps = fps
        self._pictures = _repeat(path)
        self._started_s: float | None = None

    async def recv(self) -> VideoFrame:
        """The next frame, when it is due."""
        if self.readyState != "live":
            raise MediaStreamError
        picture = await run_to_end(next, self._pictures)
        if self._started_s is None:
            self._started_s = time.monotonic()
        await asyncio.sleep(self._started_s + self.sent / self._fps - time.monotonic())
        frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = self.sent * CLOCK_HZ // self._fps, Fraction(1, CLOCK_HZ)
        self.sent += 1
        return frame


async def call(
    relay: str,
    clip: Path,
    *,
    codec: str,
    seconds: float,
    fps: int,
    save: Path | None = None,
    enough: float = math.inf,
) -> dict[str, float | str]:
    """Send the clip for so long, or until ``enough`` frames came back; figures of those.

    Raises:
        ConnectionError: the relay does not answer, or not with video.
        VideoError: the clip cannot be read, or the answer not written.
    """
    track = ClipTrack(clip, fps)
    peer = RTCPeerConnection(RTCConfiguration([]))
    coming: asyncio.Future[MediaStreamTrack] = asyncio.get_running_loop().create_future()

    @peer.on("track")
    def on_track(back: MediaStreamTrack) -> None:
        if not coming.done():
            coming.set_result(back)

    transceiver = peer.addTransceiver(track, "sendrecv")
    offered = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([one for one in offered if one.mimeType == f"video/{codec}"])
    arrivals_s: list[float] = []
    with contextlib.ExitStack() as stack:
        writer = None if save is None else stack.enter_context(VideoWriter(save, Fraction(fps)))
        try:
            await peer.setLocalDescription(await peer.createOffer())
            async with ClientSession(relay) as session:
                offer = {"type": peer.localDescription.type, "sdp": peer.localDescription.sdp}
                async with session.post("/offer", json=offer) as answered:
                    if answered.status != 200:
                        raise ConnectionError(f"{relay} refuses the offer: {await answered.text()}")
                    answer = await answered.json()
                await peer.setRemoteDescription(RTCSessionDescription(**answer))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        back = await coming
                        while len(arrivals_s) < enough:
                            frame = cast(VideoFrame, await back.recv())
                            arrivals_s.append(time.monotonic())
                            if writer is not None:
                                await run_to_end(_write, writer, frame)
                async with session.get("/stats") as answered:
                    stats = await answered.json()
        except (ClientError, MediaStreamError) as error:
            raise ConnectionError(f"{relay}: {error or 'the relay ended the video'}") from error
        finally:
            await peer.close()
    figures: dict[str, float | str] = {"codec": codec, "sent": track.sent, "back": len(arrivals_s)}
    if len(arrivals_s) > fps:
        # Without the first second, in which connection and encoders start.
        steady = [time_s for time_s in arrivals_s if time_s > arrivals_s[0] + 1]
        if len(steady) > 1:
            figures["back_fps"] = round((len(steady) - 1) / (steady[-1] - steady[0]), 2)
    return {**figures, "relay": stats}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.peer",
        description="Send a clip to the WebRTC relay and measure what comes back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("clip", type=Path, metavar="CLIP", help="video file, repeated as often as needed")
    parser.add_argument("--relay", default="http://127.0.0.1:8080", metavar="URL", help="default %(default)s")
    parser.add_argument("--codec", choices=("VP8", "H264"), default="VP8", help="default VP8")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="N", help="for how long (default 10)")
    parser.add_argument("--fps", type=int, default=30, metavar="N", help="frames a second (default 30)")
    parser.add_argument("--save", type=Path, metavar="MP4", help="write what comes back")
    options = parser.parse_args(arguments)
    try:
        figures = asyncio.run(
            call(
                options.relay,
                options.clip,
                codec=options.codec,
                seconds=options.seconds,
                fps=options.fps,
                save=options.save,
            )
        )
    except (ConnectionError, VideoError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(figures))
    return 0 if figures["back"] else 1


def _repeat(path: Path) -> Iterator[Picture]:
    for _ in itertools.count():
        with VideoReader(path) as reader:
            for frame in reader:
                yield frame.picture


def _write(writer: VideoWriter, frame: VideoFrame) -> None:
    time_us = None if frame.pts is None or frame.time_base is None else round(frame.pts * frame.time_base * 1_000_000)
    writer.write(cast(Picture, frame.to_ndarray(format="rgb24")), time_us)


if __name__ == "__main__":
    sys.exit(main())
