"""``python -m humanseg.segment``: photos, folders and videos in; masks, or people before another background, out.

Exit status: 0 all done, 1 something could not be done (named on standard error), 2 usage, 130 interrupted.
"""

import argparse
import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import grpc
from tqdm import tqdm

from humanseg.access import TlsFiles, check_target
from humanseg.answers import Limits
from humanseg.client import ClientOptions, SegmentationClient
from humanseg.errors import SegmentationError, ServerUnavailableError
from humanseg.frames import TimedFrame
from humanseg.media import (
    Clip,
    Job,
    MediaError,
    Output,
    Photo,
    Reading,
    decode_photo,
    is_jpeg_or_png,
    make_plan,
    read_frames,
    read_photo,
)
from humanseg.options import TemporalFusion
from humanseg.outputs import Finish, FrameFolder, finish_argument, write_png
from humanseg.threads import run_to_end
from humanseg.video import VideoError, VideoReader, VideoWriter
from humanseg.vision import cv
from humanseg.vision.arrays import Alpha8, Picture, Size
from humanseg.vision.decode import DecodeError, picture_size

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

EXAMPLES = """examples:
  python -m humanseg.segment --out masks photo.jpg other.png       masks/photo.png, masks/other.png
  python -m humanseg.segment --out masks holiday/                  every photo and video in the folder
  python -m humanseg.segment --out masks talk.mp4                  masks/talk/0000.png, 0001.png, ...
  python -m humanseg.segment --out masks --as-video frames/        masks/frames/0000.png, ...
  python -m humanseg.segment --out done --composite blur talk.mp4  done/talk.mp4, without sound
  python -m humanseg.segment --out done --composite '#00b140' photo.jpg
  python -m humanseg.segment --out done --composite beach.jpg --target 10.0.0.5:50051 --model large talk.mp4

A mask is an 8-bit gray PNG of the input's own size, 0 background to 255 person; a photo's lies as viewers show the
photo. What is over the server's limits is sent smaller, and its mask enlarged. Photos go one by one, with or without
--still. Results appear when they are whole, in the place of earlier ones of the same name.

exit status: 0 all done, 1 something could not be done (named on stderr, the others are done), 2 usage, 130 interrupted
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the server for every file."""

    model: str
    temporal_fusion: TemporalFusion
    fps: float
    finish: Finish | None


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; usage errors end the program with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m humanseg.segment",
        description="Cut people out of photos and videos with a running segmentation service.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="photo, video, or folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results go; made if missing")
    parser.add_argument(
        "--target",
        type=_target,
        default="127.0.0.1:50051",
        metavar="ADDRESS",
        help="HOST:PORT or unix:PATH; default %(default)s",
    )
    parser.add_argument("--model", default="", metavar="NAME", help="large, medium, small; default: the server's own")
    reading = parser.add_mutually_exclusive_group()
    reading.add_argument("--still", action="store_true", help="photos only, one by one; anything else is refused")
    reading.add_argument("--as-video", action="store_true", help="a folder is a video, its photos are the frames")
    parser.add_argument(
        "--temporal", choices=("off", "low", "high"), default="high", help="smoothing over time (default high)"
    )
    parser.add_argument(
        "--composite",
        type=finish_argument,
        metavar="blur|#rrggbb|IMAGE",
        help="write finished pictures, or an mp4, before this background instead of masks",
    )
    parser.add_argument(
        "--fps", type=_fps, default=30.0, metavar="N", help="frames a second of --as-video folders (default 30)"
    )
    parser.add_argument(
        "--reconnect-s", type=_seconds, default=30.0, metavar="S",
        help="for how long a server that breaks away in a video is waited for, or another one (default 30)",
    )  # fmt: skip
    access = parser.add_argument_group("access")
    access.add_argument("--tls", action="store_true", help="encrypt, and trust the authorities that gRPC carries")
    access.add_argument("--ca-file", type=Path, metavar="PEM", help="encrypt, and trust this authority")
    access.add_argument("--cert-file", type=Path, metavar="PEM", help="own certificate, where the server asks for one")
    access.add_argument("--key-file", type=Path, metavar="PEM", help="its key")
    access.add_argument("--token-file", type=Path, metavar="FILE", help="file that holds the bearer token")
    return parser.parse_args(arguments)


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is, and what it asks for."""

    target: str
    credentials: grpc.ChannelCredentials | None = None
    token: str | None = None
    reconnect_s: float = 30.0

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Server":
        """As the command line says.

        Raises:
            OSError: a file cannot be read.
            ValueError: a certificate without its key.
        """
        files = TlsFiles(options.ca_file, options.cert_file, options.key_file)
        wanted = options.tls or files != TlsFiles()
        token = None if options.token_file is None else options.token_file.read_text(encoding="ascii").strip()
        return cls(options.target, files.credentials() if wanted else None, token, options.reconnect_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    reading = Reading.STILL if options.still else Reading.AS_VIDEO if options.as_video else Reading.BY_KIND
    output = Output.MASKS if options.composite is None else Output.PICTURES
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"{options.out}: {error.strerror or error}", file=sys.stderr)
        return FAILED
    try:
        server = Server.of(options)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return USAGE
    plan = make_plan(options.files, options.out, reading, output)
    for complaint in plan.complaints:
        print(complaint, file=sys.stderr)
    request = Request(options.model, TemporalFusion[options.temporal.upper()], options.fps, options.composite)
    try:
        done = asyncio.run(segment_all(plan.jobs, request, server)) if plan.jobs else 0
    except KeyboardInterrupt:
        print("interrupted; what was finished is in its place, nothing else was written", file=sys.stderr)
        return INTERRUPTED
    wanted = len(plan.jobs) + len(plan.complaints)
    print(f"{done} of {wanted} done{f', in {options.out}' if done else ''}")
    return DONE if done == wanted else FAILED


async def segment_all(jobs: Sequence[Job], request: Request, server: Server) -> int:
    """Do all that can be done, say on standard error what cannot; how many were done."""
    photos = [job for job in jobs if isinstance(job, Photo)]
    clips = [job for job in jobs if isinstance(job, Clip)]
    done, target = 0, server.target
    try:
        options = ClientOptions(reconnect_s=server.reconnect_s)
        async with SegmentationClient(
            target, credentials=server.credentials, token=server.token, options=options
        ) as client:
            served = await client.list_models()
            names = [model.name for model in served.models]
            if request.model and request.model not in names:
                print(f"{target} has no model {request.model!r}; it has {', '.join(names)}", file=sys.stderr)
                return 0
            worker = Worker(client, served.limits, request)
            if photos:
                # disable=None: no bar where standard error is not a terminal.
                for photo in tqdm(photos, desc="photos", unit="photo", disable=None):
                    done += await _try(worker.segment_photo(photo), photo)
            for clip in clips:
                done += await _try(worker.segment_clip(clip), clip)
    except ServerUnavailableError as error:
        _complain(f"no answer from {target}: {error.message}; {len(jobs) - done} files were not done")
    except SegmentationError as error:
        _complain(f"{target}: {error}")
    return done


class Worker:
    """Segments one file after another over one client."""

    def __init__(self, client: SegmentationClient, limits: Limits, request: Request) -> None:
        self._client = client
        self._limits = limits
        self._request = request

    async def segment_photo(self, photo: Photo) -> None:
        """Write the result of a photo.

        Raises:
            MediaError: it cannot be read, or the result not written.
            SegmentationError: the call failed.
        """
        file = await run_to_end(read_photo, photo.path)
        picture: Picture | None = None
        if self._request.finish or not self._can_be_sent(file):
            picture = await run_to_end(decode_photo, file, photo.path)
        if picture is None or self._can_be_sent(file):
            alpha8 = (await self._client.segment(file, model=self._request.model)).alpha8
        else:
            small = await run_to_end(self._within_limits, picture)
            alpha8 = (await self._client.segment(small, model=self._request.model)).alpha8
        await run_to_end(self._write_photo, photo.target, picture, alpha8)

    async def segment_clip(self, clip: Clip) -> None:
        """Write the result of a video, or of a folder that is one.

        Raises:
            MediaError, VideoError: it cannot be read, or the result not written.
            SegmentationError: the stream failed.
        """
        with ExitStack() as stack:
            if clip.frames:
                fps, total = Fraction(self._request.fps).limit_denominator(1001), len(clip.frames)
                frames = read_frames(clip.frames, self._request.fps)
            else:
                reader = stack.enter_context(await run_to_end(VideoReader, clip.path))
                fps, total, frames = reader.info.fps, reader.info.frame_count, iter(reader)
            name = clip.path.resolve().name
            bar = stack.enter_context(tqdm(total=total or None, desc=name, unit="frame", disable=None))
            finish = self._request.finish
            sink: VideoWriter | FrameFolder = VideoWriter(clip.target, fps) if finish else FrameFolder(clip.target)
            stack.enter_context(sink)
            async with aclosing(self._masks(frames)) as pairs:
                async for frame, alpha8 in pairs:
                    await run_to_end(self._write_frame, sink, frame, alpha8)
                    bar.update()

    async def _masks(self, frames: Iterator[TimedFrame]) -> AsyncGenerator[tuple[TimedFrame, Alpha8], None]:
        """Each frame as it was read, with a mask of the size at which it was sent."""
        read: deque[TimedFrame] = deque()

        def sendable() -> Iterator[TimedFrame]:
            for frame in frames:
                read.append(frame)
                yield TimedFrame(self._within_limits(frame.picture), frame.capture_time_us)

        masks = self._client.masks(
            sendable(), model=self._request.model, temporal_fusion=self._request.temporal_fusion, label="segment"
        )
        async with aclosing(masks):
            async for _, alpha8 in masks:
                yield read.popleft(), alpha8

    def _write_photo(self, target: Path, picture: Picture | None, alpha8: Alpha8) -> None:
        if picture is None:
            write_png(target, alpha8)
            return
        whole = _enlarged(alpha8, Size.of(picture))
        write_png(target, self._request.finish(picture, whole) if self._request.finish else whole)

    def _write_frame(self, sink: VideoWriter | FrameFolder, frame: TimedFrame, alpha8: Alpha8) -> None:
        whole = _enlarged(alpha8, Size.of(frame.picture))
        picture = self._request.finish(frame.picture, whole) if self._request.finish else whole
        if isinstance(sink, VideoWriter):
            sink.write(picture, frame.capture_time_us)
        else:
            sink.write(picture)

    def _can_be_sent(self, file: bytes) -> bool:
        """Whether the server reads this file itself; one whose header is broken is for `decode_photo` to name."""
        if not is_jpeg_or_png(file) or len(file) > self._limits.max_frame_bytes:
            return False
        try:
            size = picture_size(file)
        except DecodeError:
            return False
        return size == size.within(self._limits.max_frame_px, self._limits.max_side_px)

    def _within_limits(self, picture: Picture) -> Picture:
        size = Size.of(picture)
        allowed = size.within(self._limits.max_frame_px, self._limits.max_side_px)
        return picture if allowed == size else cv.resize_area(picture, allowed)


def _enlarged(alpha8: Alpha8, size: Size) -> Alpha8:
    return alpha8 if Size.of(alpha8) == size else cv.resize_cubic(alpha8, size)


async def _try(work: Awaitable[None], job: Job) -> bool:
    """Whether it could be done; what could not is named on standard error."""
    try:
        await work
    except (MediaError, VideoError) as error:
        _complain(str(error))
    except ServerUnavailableError:
        raise
    except SegmentationError as error:
        _complain(f"{job.path}: {error}")
    else:
        return True
    return False


def _complain(text: str) -> None:
    """A line on standard error that a progress bar does not tear."""
    tqdm.write(text, file=sys.stderr)


def _target(text: str) -> str:
    try:
        check_target(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 0 to 86400")
    return value


def _fps(text: str) -> float:
    try:
        fps = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0.1 <= fps <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is out of range, allowed are 0.1 to 1000")
    return fps


if __name__ == "__main__":
    sys.exit(main())
