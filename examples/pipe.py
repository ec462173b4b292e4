"""``python -m examples.pipe``: a video in, the same video before another background out; files or pipes at each end.

Exit status: 0 done, 1 it could not be done (said on standard error), 2 usage, 130 interrupted.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from examples.ffmpeg import FfmpegError, decoder, encoder
from examples.y4m import Y4mError, Y4mHeader, write_frame
from humanseg.client import SegmentationClient
from humanseg.errors import SegmentationError, ServerUnavailableError
from humanseg.frames import PixelFormat, RawFrame, TimedFrame, pack_planes, view_frame
from humanseg.media import MediaError
from humanseg.options import TemporalFusion
from humanseg.outputs import Finish, finish_argument
from humanseg.threads import run_to_end
from humanseg.video import VideoError, VideoReader
from humanseg.vision.arrays import Alpha8, Size
from humanseg.vision.color import rgb_to_i420, to_rgb

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
PIPE = "-"

EXAMPLES = """examples:
  python -m examples.pipe talk.mp4 done.mp4                            background blurred, sound kept
  python -m examples.pipe --background '#00b140' talk.mov done.mp4     a color
  python -m examples.pipe --background beach.jpg talk.webm done.mp4    a picture, scaled to cover
  ffmpeg -i rtsp://camera -pix_fmt yuv420p -color_range tv -f yuv4mpegpipe - \\
    | python -m examples.pipe - - | ffplay -                           in and out through pipes, without sound

"-" is standard input or output, and speaks y4m (yuv4mpegpipe), 8-bit 4:2:0 of limited range, BT.601.
A file appears under its name when it is whole.

exit status: 0 done, 1 it could not be done (said on stderr), 2 usage, 130 interrupted
"""


@dataclass(frozen=True, slots=True)
class Task:
    """What to do; ``source`` and ``target`` are paths or `PIPE`."""

    source: str
    target: str
    server: str
    model: str
    temporal_fusion: TemporalFusion
    finish: Finish


def parse_arguments(arguments: Sequence[str] | None = None) -> Task:
    """Read the command line; usage errors end the program with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.pipe",
        description="Replace the background of a video with a running segmentation service.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="IN", help="video file, or - for y4m on standard input")
    parser.add_argument("target", metavar="OUT", help="video file, or - for y4m on standard output")
    parser.add_argument(
        "--background",
        type=finish_argument,
        default="blur",
        metavar="blur|#rrggbb|IMAGE",
        help="what to put behind the people (default blur)",
    )
    parser.add_argument("--server", default="127.0.0.1:50051", metavar="HOST:PORT", help="default %(default)s")
    parser.add_argument("--model", default="", metavar="NAME", help="default: the server's own")
    parser.add_argument(
        "--temporal", choices=("off", "low", "high"), default="high", help="smoothing over time (default high)"
    )
    options = parser.parse_args(arguments)
    if options.source != PIPE and not Path(options.source).is_file():
        parser.error(f"{options.source}: no such file")
    if options.target != PIPE and not Path(options.target).parent.is_dir():
        parser.error(f"{options.target}: no such folder {Path(options.target).parent}")
    if options.target == PIPE and sys.stdout.isatty():
        parser.error("OUT is - but standard output is a terminal; name a file, or pipe it into another program")
    fusion = TemporalFusion[options.temporal.upper()]
    return Task(options.source, options.target, options.server, options.model, fusion, options.background)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    task = parse_arguments(arguments)
    try:
        count = asyncio.run(replace_background(task))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        print("standard output was closed by its reader", file=sys.stderr)
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ServerUnavailableError as error:
        print(f"no answer from {task.server}: {error.message}; is it running? `make serve` starts one", file=sys.stderr)
        return FAILED
    except (FfmpegError, MediaError, SegmentationError, VideoError, Y4mError) as error:
        print(error, file=sys.stderr)
        return FAILED
    print(f"{count} frames written to {'standard output' if task.target == PIPE else task.target}", file=sys.stderr)
    return DONE


async def replace_background(task: Task) -> int:
    """Do it; how many frames were written.

    Raises:
        FfmpegError, MediaError, VideoError, Y4mError: the video cannot be read or written.
        SegmentationError: the stream failed.
    """
    count = 0
    with ExitStack() as stack:
        source = stack.enter_context(open_source(task.source))
        header = await run_to_end(Y4mHeader.read, source)
        sink = stack.enter_context(open_sink(task.target, task.source))
        total = None if task.source == PIPE else _frame_count(task.source)
        # disable=None: no bar where standard error is not a terminal.
        bar = stack.enter_context(tqdm(total=total, desc=Path(task.source).name, unit="frame", disable=None))
        async with SegmentationClient(task.server) as client:
            masks = client.masks(
                _frames(source, header), model=task.model, temporal_fusion=task.temporal_fusion, label="pipe"
            )
            async with aclosing(masks):
                async for frame, alpha8 in masks:
                    planes = await run_to_end(_finished, task.finish, frame, alpha8)
                    if not count:
                        await run_to_end(sink.write, header.to_bytes())
                    await run_to_end(write_frame, sink, planes)
                    count += 1
                    bar.update()
        if not count:
            raise Y4mError(f"{'standard input' if task.source == PIPE else task.source}: holds no picture")
        await run_to_end(sink.flush)
    return count


@contextmanager
def open_source(source: str) -> Iterator[BinaryIO]:
    """The y4m of a file or of standard input."""
    if source == PIPE:
        yield sys.stdin.buffer
        return
    with decoder(Path(source)) as ffmpeg:
        yield ffmpeg.output


@contextmanager
def open_sink(target: str, source: str) -> Iterator[BinaryIO]:
    """Where y4m goes; a file appears under its name when the block ends without an exception."""
    if target == PIPE:
        yield sys.stdout.buffer
        return
    path = Path(target)
    part = path.with_name(f".part.{path.name}")
    try:
        with encoder(part, None if source == PIPE else Path(source)) as ffmpeg:
            yield ffmpeg.input
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _frames(source: BinaryIO, header: Y4mHeader) -> Iterator[TimedFrame]:
    for number, planes in enumerate(header.frames(source)):
        raw = view_frame(planes, PixelFormat.I420, header.size)
        yield TimedFrame(to_rgb(raw), round(number * 1_000_000 / header.fps))


def _finished(finish: Finish, frame: TimedFrame, alpha8: Alpha8) -> bytes:
    picture = finish(frame.picture, alpha8)
    return pack_planes(RawFrame(Size.of(picture), PixelFormat.I420, rgb_to_i420(picture)))


def _frame_count(source: str) -> int | None:
    with VideoReader(source) as reader:
        return reader.info.frame_count or None


if __name__ == "__main__":
    sys.exit(main())
