"""``python -m benchmarks.relay``: does the WebRTC relay keep up with a peer's video?

For each codec a peer sends a clip at 30 frames a second to ``python -m examples.relay``, which has its pictures made by
a service started here. "held": at least 29 frames a second come back, and p99 of the relay's delay, from a decoded
frame to its finished picture (gRPC and composite), is at most 33 ms. INVALID, with what to do, where the peer did not
send its frames or too few came back for a p99. The peer takes its share of the same machine.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks import relay_programs
from benchmarks.machine import ROOT, describe
from benchmarks.relay_figures import FPS, Used, judge, table, verdict
from benchmarks.relay_programs import RelayServer, call, check_installed
from benchmarks.report import write_json
from benchmarks.target import LocalServer, TargetError
from humanseg.video import VideoError, VideoReader

HELD, NOT_HELD, FAILED, INTERRUPTED = 0, 3, 1, 130
CODECS = ("VP8", "H264")
CLIP = ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"
#: The relay keeps the delays of the latest 40 s: at 44 those of the first pictures are no longer among them.
SECONDS = 44.0
#: The first second back is in no rate.
LEAST_SECONDS = 2.0
#: A pipe says nothing about its width; rich would take 80 columns and cut the table.
PIPE_COLUMNS = 120

EXAMPLES = """examples:
  python -m benchmarks.relay                                   both codecs, two minutes; results in out/relay
  python -m benchmarks.relay --codec H264 --seconds 120 --out out/h264
  python -m benchmarks.relay --model medium --clip talk.mp4    another model, one's own video (640x360)

It leaves report.json and the logs of service, relay and peer. Needs pip install -e '.[bench,server,examples]'.

exit status: 0 held, 3 not held or INVALID (it says why), 1 could not be measured, 2 usage, 130 interrupted
"""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; usage errors end the program with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.relay",
        description="Measure the WebRTC relay with a real peer: frames back a second, delays, CPU time.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--codec", nargs="+", choices=CODECS, default=CODECS, metavar="NAME", help="VP8, H264, or both (default)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=SECONDS,
        metavar="S",
        help="that pictures come back, of each codec (default 44)",
    )
    parser.add_argument("--model", default="small", metavar="NAME", help="default small")
    parser.add_argument("--models", type=Path, metavar="DIR", help="*.onnx of the service started here")
    parser.add_argument("--clip", type=Path, default=CLIP, metavar="FILE", help="default: the one that comes with this")
    parser.add_argument("--out", type=Path, default=Path("out/relay"), metavar="DIR", help="default out/relay")
    options = parser.parse_args(arguments)
    if options.seconds < LEAST_SECONDS:
        parser.error(f"--seconds {options.seconds:g}: at least {LEAST_SECONDS:g}, the first one is in no rate")
    return options


def measure(options: argparse.Namespace, console: Console) -> dict[str, dict[str, Any]]:
    """The figures of each codec, one after the other.

    Raises:
        TargetError: something is missing, did not start, or ended too early; or nothing came back.
        VideoError: the clip cannot be read.
    """
    # Before anything is started: a mistyped name is answered at once.
    check_installed(relay_programs.NEEDED)
    with VideoReader(options.clip):
        pass
    flags = ["--default-model", options.model]
    flags += ["--models", str(options.models.resolve())] if options.models else []
    calls = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        # The cores are those that are measured: drawn rarely.
        Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress,
        LocalServer(options.out / "server.log", flags, niceness=0) as service,
    ):
        for codec in dict.fromkeys(options.codec):
            task = progress.add_task(f"{codec}: starting", total=options.seconds)

            def show(elapsed_s: float, codec: str = codec, task: TaskID = task) -> None:
                progress.update(task, description=f"{codec}: measuring", completed=elapsed_s)

            calls[codec] = measure_codec(service, codec, options, show)
            progress.update(task, description=f"{codec}: done", completed=options.seconds)
    return calls


def measure_codec(
    service: LocalServer, codec: str, options: argparse.Namespace, show: Callable[[float], None]
) -> dict[str, Any]:
    """One call through a relay of its own.

    Raises:
        TargetError: it could not be measured.
    """
    load_before = psutil.getloadavg()[0]
    with RelayServer(options.out / f"relay-{codec}.log", service.address, options.model) as relay:
        before = cpu_s(relay), cpu_s(service)
        peer = call(
            relay,
            service,
            codec=codec,
            clip=options.clip.resolve(),
            fps=FPS,
            seconds=options.seconds,
            log_path=options.out / f"peer-{codec}.log",
            show=show,
        )
        used = Used(cpu_s(relay) - before[0], cpu_s(service) - before[1])
    return judge(peer, used, load_before)


def cpu_s(server: LocalServer) -> float:
    """CPU time that it has taken so far.

    Raises:
        TargetError: it is gone.
    """
    usage = server.usage()
    if usage is None:
        server.check_alive()  # raises, with its log's last lines
        raise TargetError(f"the {server.name}'s process is gone")
    return usage.cpu_s


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(given)
    # These end a run as Ctrl-C does, with its processes stopped; SIGHUP is a terminal that was closed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    console = Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        machine = describe()
        calls = measure(options, console)
        report = {
            "schema": "humanseg.benchmark.relay/1",
            "command": ["python", "-m", "benchmarks.relay", *given],
            "machine": machine,
            "model": options.model,
            "fps": FPS,
            "seconds": options.seconds,
            "codecs": calls,
            "held": all(figures["held"] for figures in calls.values()),
        }
        write_json(report, options.out / "report.json")
    except (TargetError, VideoError, OSError) as error:
        print(f"benchmarks/relay.py: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("benchmarks/relay.py: interrupted; service, relay and peer are stopped", file=sys.stderr)
        return INTERRUPTED
    console.print(table(calls))
    for codec, figures in calls.items():
        console.print(verdict(codec, figures), highlight=False, soft_wrap=True)
    console.print(f"report: {options.out / 'report.json'}", highlight=False, soft_wrap=True)
    return HELD if report["held"] else NOT_HELD


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
