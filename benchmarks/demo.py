"""``python -m benchmarks.demo``: what ``make demo`` runs. A clip goes through a service started here, and is shown.

Two passes, so that drawing the pictures does not disturb the figures: first every frame goes through the stream, one at
a time, and the masks are kept; then the clip is read again and drawn with them.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.demo_pictures import draw
from benchmarks.demo_report import build, print_summary
from benchmarks.demo_stream import MaskSpool, Streamed, stream_clip
from benchmarks.machine import describe
from benchmarks.report import write_json
from benchmarks.scrape import ScrapeError
from benchmarks.target import LocalServer, TargetError
from humanseg.errors import SegmentationError
from humanseg.frames import FrameError
from humanseg.video import VideoError, VideoReader

OK, FAILED, INTERRUPTED = 0, 1, 130

EXAMPLES = """examples:
  make demo                                  the clip that comes with the project; results in out/demo
  make demo INPUT=my.mp4                     your own
  python -m benchmarks.demo --input my.mp4 --out out/mine --model small

It leaves demo.mp4 (input | mask | new background), contact_sheet.png, report.json and server.log.

exit status: 0 done, 1 not done or a frame has no mask (the message says which), 2 usage, 130 interrupted
"""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; usage errors end the program with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo",
        description="Stream a clip through the service, and show the person cut out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--input", type=Path, required=True, metavar="CLIP", help="a video file")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help="default out/demo")
    parser.add_argument("--model", default="", metavar="NAME", help="default: the service's own default")
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder of models (default: the service's own)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, command: list[str], console: Console) -> int:
    """Do it all; the exit status.

    Raises:
        VideoError: the clip cannot be read, or the result not written.
        TargetError, ScrapeError: the service cannot be started or read.
        SegmentationError: it does not serve the clip.
    """
    clip: Path = options.input
    out: Path = options.out
    # Before a server is started: a mistyped name is answered at once.
    with VideoReader(clip) as reader:
        info = reader.info
    out.mkdir(parents=True, exist_ok=True)
    machine = describe()
    began_s = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress, MaskSpool() as masks:
        task = progress.add_task("starting the service", total=None)
        server = LocalServer(out / "server.log", _server_flags(options))
        with server:
            progress.update(task, description="streaming", total=info.frame_count or None)
            streamed = _stream(server, clip, options.model, masks, lambda: progress.advance(task))
        progress.update(task, description="drawing", total=masks.count, completed=0)
        draw(clip, masks, out, lambda: progress.advance(task))
    figures = build(
        streamed=streamed,
        clip=clip,
        fps=float(info.fps),
        machine=machine,
        command=command,
        server_exit_status=server.exit_status,
        seconds=time.monotonic() - began_s,
    )
    write_json(figures, out / "report.json")
    print_summary(figures, out, console)
    if server.exit_status != 0:
        raise TargetError(f"the service ended with status {server.exit_status} after SIGTERM\n{server.log_tail()}")
    return FAILED if streamed.dropped else OK


def _stream(server: LocalServer, clip: Path, model: str, masks: MaskSpool, show: Callable[[], None]) -> Streamed:
    try:
        return asyncio.run(stream_clip(server, clip, model, masks, show))
    except SegmentationError:
        # If it is gone, its log knows more than our end of the connection.
        server.check_alive()
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(given)
    # SIGTERM ends it as Ctrl-C does: with the service stopped.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return run(options, ["python", "-m", "benchmarks.demo", *given], Console())
    except (VideoError, TargetError, ScrapeError, SegmentationError, FrameError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("demo: interrupted; the service is stopped", file=sys.stderr)
        return INTERRUPTED


def _server_flags(options: argparse.Namespace) -> list[str]:
    # The service runs in the root of the checkout, not where we were called.
    return ["--models", os.fspath(options.models.resolve())] if options.models else []


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    status = main()
    if status == INTERRUPTED:
        # All is stopped. The interrupt may have met the threads of grpc or of the decoder anywhere, and once in some
        # thirty runs the process died by SIGSEGV instead of ending.
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
