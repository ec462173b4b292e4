"""``python -m examples.peer``: a WebRTC peer without a browser. Sends a clip to the relay and measures what comes back.

Prints one JSON line; exit status: 0 pictures came back, 1 none did, or it could not be done, 2 usage.
"""

import argparse
import asyncio
import contextlib
import json
import math
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
from aiohttp import ClientError, ClientSession
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import VideoFrame
from numpy.typing import NDArray

from examples.i420 import pack_i420, unpack_i420
from humanseg.threads import run_to_end
from humanseg.video import VideoError, VideoReader, VideoWriter
from humanseg.vision.arrays import Picture

CLOCK_HZ = 90_000
#: Of the clip, read before the call so that reading takes no time from whoever shares the cores: 26 s of 640x360.
MOST_BYTES = 256 * 2**20
#: In which the first picture must be back.
FIRST_WITHIN_S = 30.0

EXAMPLES = """examples:
  python -m examples.peer talk.mp4                       ten seconds at 30 frames a second, VP8
  python -m examples.peer --codec H264 --seconds 60 --save back.mp4 talk.mp4
"""


class ClipTrack(MediaStreamTrack):
    """Pictures, (H * 3 / 2, W) uint8 I420, again and again, at an even pace whatever the clip's own frame rate is."""

    kind = "video"

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], fps: int) -> None:
        super().__init__()
        self.sent = 0
        self._pictures = pictures
        self._fps = fps
        self._started_s: float | None = None

    async def recv(self) -> VideoFrame:
        """The next frame, when it is due."""
        if self.readyState != "live":
            raise MediaStreamError
        if self._started_s is None:
            self._started_s = time.monotonic()
        await asyncio.sleep(self._started_s + self.sent / self._fps - time.monotonic())
        frame = unpack_i420(self._pictures[self.sent % len(self._pictures)])
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
    """Send the clip until pictures came back for so long, or ``enough`` of them; figures of those.

    The rate of those that came back leaves out the first second, in which connection and encoders start, and goes to
    the end of the call: a video that stands still counts as none.

    Raises:
        ConnectionError: the relay does not answer, or not with video.
        VideoError: the clip cannot be read, or the answer not written.
    """
    pictures = await run_to_end(_read, clip, MOST_BYTES)
    track = ClipTrack(pictures, fps)
    peer = RTCPeerConnection(RTCConfiguration([]))
    coming: asyncio.Future[MediaStreamTrack] = asyncio.get_running_loop().create_future()

    @peer.on("track")
    def on_track(back: MediaStreamTrack) -> None:
        if not coming.done():
            coming.set_result(back)

    transceiver = peer.addTransceiver(track, "sendrecv")
    offered = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([one for one in offered if one.mimeType == f"video/{codec}"])
    # When each picture came back, and how many had been sent by then.
    arrivals: list[tuple[float, int]] = []
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
                    async with asyncio.timeout(FIRST_WITHIN_S) as limit:
                        back = await coming
                        while len(arrivals) < enough:
                            frame = cast(VideoFrame, await back.recv())
                            if not arrivals:
                                limit.reschedule(asyncio.get_running_loop().time() + seconds)
                            arrivals.append((time.monotonic(), track.sent))
                            if writer is not None:
                                await run_to_end(_write, writer, frame)
                ended = (time.monotonic(), track.sent)
                async with session.get("/stats") as answered:
                    stats = await answered.json()
        except (ClientError, MediaStreamError) as error:
            raise ConnectionError(f"{relay}: {error or 'the relay ended the video'}") from error
        finally:
            await peer.close()
    height, width = pictures[0].shape[0] // 3 * 2, pictures[0].shape[1]
    counts = {"codec": codec, "size": f"{width}x{height}", "sent": ended[1], "back": len(arrivals)}
    return {**counts, **rates(arrivals, ended), "relay": stats}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.peer",
        description="Send a clip to the WebRTC relay and measure what comes back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("clip", type=Path, metavar="CLIP", help="video file, its beginning repeated as often as needed")
    parser.add_argument("--relay", default="http://127.0.0.1:8080", metavar="URL", help="default %(default)s")
    parser.add_argument("--codec", choices=("VP8", "H264"), default="VP8", help="default VP8")
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="N", help="for how long pictures come back (default 10)"
    )
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


def _read(path: Path, most_bytes: int) -> list[NDArray[np.uint8]]:
    """The beginning of a clip as I420, (H * 3 / 2, W) uint8; at least one picture."""
    pictures: list[NDArray[np.uint8]] = []
    with VideoReader(path) as reader:
        for frame in reader:
            pictures.append(pack_i420(VideoFrame.from_ndarray(frame.picture, format="rgb24")))
            if (len(pictures) + 1) * pictures[0].nbytes > most_bytes:
                break
    return pictures


def rates(arrivals: Sequence[tuple[float, int]], ended: tuple[float, int]) -> dict[str, float]:
    """Frames a second sent since the first one came back, and back since a second later; none of a shorter call."""
    if not arrivals or ended[0] <= arrivals[0][0] + 1:
        return {}
    (first_s, sent_before), (ended_s, sent) = arrivals[0], ended
    steady = sum(time_s >= first_s + 1 for time_s, _ in arrivals)
    return {
        "sent_fps": round((sent - sent_before) / (ended_s - first_s), 2),
        "back_fps": round(steady / (ended_s - first_s - 1), 2),
    }


def _write(writer: VideoWriter, frame: VideoFrame) -> None:
    time_us = None if frame.pts is None or frame.time_base is None else round(frame.pts * frame.time_base * 1_000_000)
    writer.write(cast(Picture, frame.to_ndarray(format="rgb24")), time_us)


if __name__ == "__main__":
    sys.exit(main())
