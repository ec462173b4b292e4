"""The flags of `benchmarks/run.py`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import NoReturn

from benchmarks.arrivals import Arrivals
from benchmarks.target import TRANSPORTS
from humanseg.vision.arrays import Size

EXAMPLES = """examples:
  python benchmarks/run.py                                   2 sessions at 30 fps, own server, two minutes
  python benchmarks/run.py --quick                           the same in a minute
  python benchmarks/run.py --sessions 4 --fps 15 --temporal off --clip talk.mp4
  python benchmarks/run.py --size 1280x720 --format jpeg --out out/bench-720p
  python benchmarks/run.py --arrivals churn --ladder none
  python benchmarks/run.py --find-capacity
  python benchmarks/run.py --sweep server.engine=onnxruntime-cpu,openvino-f32 --sweep size=640x360,1280x720
  python benchmarks/run.py --peers ../shared/data/train --tflite selfie_segmentation.tflite
  python benchmarks/run.py --compare before/report.json after/report.json
  python benchmarks/run.py --target 127.0.0.1:50051 --metrics-url http://127.0.0.1:9464/metrics

It leaves report.html (open it in a browser), report.json and the server's log in --out.
The server started here reads HUMANSEG_* variables like any other (relative paths in them: from the checkout).

exit status: 0 valid, 3 measured but INVALID (the report says why), 1 could not measure, 2 usage, 130 interrupted
"""

#: Shares of the bare engine's frames a second that the ladder offers, seconds of each step, of the warm-up before it.
LADDER, STEP_S = (0.25, 0.5, 0.75, 1.0, 1.3), 8.0
QUICK_LADDER, QUICK_STEP_S = (0.5, 0.9, 1.3), 4.0
STEP_WARMUP_S = 1.0
#: Seconds that are measured, and the warm-up before: 1,200 masks of the quick run are enough for a p99.
MEASURED_S, WARMUP_S = 40.0, 3.0
QUICK_MEASURED_S, QUICK_WARMUP_S = 20.0, 1.0

#: Clients share the machine with the server. Where both want a core, the kernel must wake the client first, or a frame
#: is sent late and the run is void. In use a client is on another machine and never waits for the server.
SERVER_NICENESS = 10

#: Flags of the server that this command gives it.
OWN_FLAGS = ("host", "port", "metrics-port", "log-format", "log-level", "models", "socket-file", "no-tcp", "tcp")


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, where argparse would print all flags before it."""

    def error(self, message: str) -> NoReturn:
        print(f"benchmarks/run.py: {message} (--help shows all flags)", file=sys.stderr)
        sys.exit(2)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; usage errors end the program with status 2, as argparse does."""
    parser = _Parser(
        prog="python benchmarks/run.py",
        description="Measure latency, drops and CPU cost of the service under open-loop load.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what to do, instead of one run").add_mutually_exclusive_group()
    what.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="show two report.json side by side")
    what.add_argument(
        "--find-capacity", action="store_true",
        help="find the most sessions with p99 <= 33.3 ms, 99 %% on time and at most 0.1 %% dropped",
    )  # fmt: skip
    what.add_argument(
        "--sweep", action="append", default=[], metavar="KEY=A,B,..",
        help=f"run every combination; KEY is {', '.join(SWEPT)} or server.FLAG; may be repeated",
    )  # fmt: skip
    what.add_argument(
        "--peers", type=Path, metavar="DATA",
        help="compare with what people would use instead: accuracy on the photos in DATA, and CPU of a frame",
    )  # fmt: skip
    peers = parser.add_argument_group("with --peers")
    peers.add_argument("--tflite", type=Path, action="append", default=[], metavar="FILE", help="MediaPipe's model")
    peers.add_argument("--triton", metavar="HOST:PORT", help="gRPC port of a Triton on this machine with the model")
    peers.add_argument("--photos", type=_positive_int, default=200, metavar="N", help="at most (default 200)")
    peers.add_argument("--all-photos", action="store_true", help="not only those that training left aside")
    peers.add_argument("--frames", type=_positive_int, default=150, metavar="N", help="of the video (default 150)")
    load = parser.add_argument_group("load")
    load.add_argument("--sessions", type=_positive_int, default=2, metavar="N", help="streams at once (default 2)")
    load.add_argument("--fps", type=_positive, default=30.0, help="frames a second of each session (default 30)")
    load.add_argument("--seconds", type=_positive, metavar="S", help="measured part (default 40; with --quick 20)")
    load.add_argument("--warmup-s", type=_positive, metavar="S", help="left out before it (default 3; with --quick 1)")
    load.add_argument(
        "--arrivals", type=Arrivals, choices=list(Arrivals), default=Arrivals.PACED,
        help="paced, poisson, bursty (all at once) or churn (people come and go); default paced",
    )  # fmt: skip
    load.add_argument("--seed", type=int, default=1, help="of the sessions' phases (default 1)")
    load.add_argument("--clip", type=Path, metavar="FILE", help="video to send (default: drawn pictures)")
    load.add_argument(
        "--size", type=_size, default=Size(640, 360), metavar="WxH", help="of the frames (default 640x360)"
    )
    load.add_argument("--format", choices=FORMATS, default="i420", help="of the frames (default i420)")
    load.add_argument("--quick", action="store_true", help="shorter parts, a minute in all")
    load.add_argument(
        "--ladder", type=_shares, metavar="SHARES",
        help="further loads, as shares of what the bare engine gives (of the load itself where that is not known);"
        f" default {','.join(f'{share:g}' for share in LADDER)}, with --quick"
        f" {','.join(f'{share:g}' for share in QUICK_LADDER)}; none",
    )  # fmt: skip
    load.add_argument("--step-s", type=_positive, metavar="S", help="of each such load (default 8; with --quick 4)")
    server = parser.add_argument_group("server")
    server.add_argument("--model", default="", help="default: the server's own default")
    server.add_argument("--temporal", choices=FUSIONS, default="high", help="fusion (default high)")
    server.add_argument(
        "--policy", choices=POLICIES, default="newest", help="a late frame gives way, or every one is answered"
    )
    server.add_argument(
        "--target", metavar="ADDRESS", help="measure this server, HOST:PORT or unix:PATH, instead of starting one"
    )
    server.add_argument("--transport", choices=TRANSPORTS, default="tcp", help="to the server started here (tcp)")
    server.add_argument("--metrics-url", metavar="URL", help="its Prometheus page, for CPU figures")
    server.add_argument("--models", type=Path, metavar="DIR", help="*.onnx of the server started here")
    server.add_argument("--server-cpus", metavar="LIST", help="pin the server started here to these CPUs, as 0,2-3")
    server.add_argument(
        "--server-nice", type=_niceness, default=SERVER_NICENESS, metavar="N",
        help=f"of the server started here, 0 to 19: the clients beside it send on time (default {SERVER_NICENESS})",
    )  # fmt: skip
    server.add_argument(
        "--server-flag", action="append", default=[], metavar="NAME=VALUE",
        help="a flag of the server started here, for example runners=1; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--clients", type=_positive_int, metavar="N", help="client processes (default: a quarter of the cores)"
    )
    parser.add_argument("--out", type=Path, default=Path("out/bench"), metavar="DIR", help="default out/bench")
    options = parser.parse_args(arguments)
    _check(parser, options)
    _fill_in(options)
    try:
        options.cells = cells(options, options.sweep)
    except ValueError as error:
        parser.error(str(error))
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.metrics_url and not options.target:
        parser.error("--metrics-url belongs to --target; of its own server the address is known")
    for flag in ("--server-cpus", "--models", "--server-flag"):
        if options.target and getattr(options, flag.removeprefix("--").replace("-", "_")):
            parser.error(f"{flag} is for the server started here, not for one given by --target")
    if options.target and options.transport != "tcp":
        parser.error("--transport is for the server started here; give --target unix:PATH")
    for pair in options.server_flag:
        name, separator, _ = pair.partition("=")
        if not separator or name in ("", *OWN_FLAGS):
            parser.error(
                f"--server-flag {pair!r} must be NAME=VALUE with a flag of `python -m service`, and not one that this"
                f" command sets itself ({', '.join(OWN_FLAGS)})"
            )
    if options.triton and not options.triton.rpartition(":")[2].isdecimal():
        parser.error(f"--triton {options.triton!r} is not HOST:PORT, for example 127.0.0.1:8001")
    if options.clip and not options.clip.is_file():
        parser.error(f"--clip {options.clip}: no such file")


def _fill_in(options: argparse.Namespace) -> None:
    """Defaults that depend on --quick."""
    measured_s, warmup_s = (QUICK_MEASURED_S, QUICK_WARMUP_S) if options.quick else (MEASURED_S, WARMUP_S)
    ladder, step_s = (QUICK_LADDER, QUICK_STEP_S) if options.quick else (LADDER, STEP_S)
    options.seconds = measured_s if options.seconds is None else options.seconds
    options.warmup_s = warmup_s if options.warmup_s is None else options.warmup_s
    options.ladder = ladder if options.ladder is None else options.ladder
    options.step_s = step_s if options.step_s is None else options.step_s


def cells(options: argparse.Namespace, sweep: Sequence[str]) -> list[tuple[str, argparse.Namespace]]:
    """Every combination of a sweep: what is particular about it, and the options that make it.

    What needs another server changes slowest, so that one serves as many combinations as it can.

    Raises:
        ValueError: a key that cannot be swept, or a value that it cannot have.
    """
    axes = []
    for text in sweep:
        key, separator, values = text.partition("=")
        is_flag = key.startswith("server.") and key.removeprefix("server.") not in ("", *OWN_FLAGS)
        is_server = is_flag or key == "transport"
        if not separator or not (key in SWEPT or is_flag):
            raise ValueError(f"--sweep {text!r} must be KEY=A,B,.. with KEY one of {', '.join(SWEPT)} or server.FLAG")
        if is_server and options.target:
            raise ValueError(f"--sweep {key} is for the server started here, not for one given by --target")
        axes.append((not is_server, key, [value for value in values.split(",") if value]))
        if not axes[-1][2]:
            raise ValueError(f"--sweep {text!r} names no values")
    axes.sort(key=lambda axis: axis[0])
    found = []
    for combination in product(*(values for _, _, values in axes)):
        cell = argparse.Namespace(**vars(options))
        for (_, key, _), value in zip(axes, combination, strict=True):
            if key.startswith("server."):
                cell.server_flag = [*cell.server_flag, f"{key.removeprefix('server.')}={value}"]
            else:
                try:
                    setattr(cell, key, SWEPT[key](value))
                except (argparse.ArgumentTypeError, ValueError) as error:
                    raise ValueError(f"--sweep {key}: {error}") from None
        found.append((" ".join(f"{key}={value}" for (_, key, _), value in zip(axes, combination, strict=True)), cell))
    return found


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)


def _niceness(text: str) -> int:
    if not text.isdecimal() or int(text) > 19:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0 to 19")
    return int(text)


def _shares(text: str) -> tuple[float, ...]:
    return () if text == "none" else tuple(_positive(part) for part in text.split(","))


def _size(text: str) -> Size:
    try:
        return Size.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise argparse.ArgumentTypeError(f"{text!r} must be one of {', '.join(allowed)}")
        return text

    return read


FORMATS, FUSIONS, POLICIES = ("i420", "rgb24", "jpeg"), ("off", "low", "high"), ("newest", "every")
#: What a sweep may vary beside flags of the server, and how a value is read.
SWEPT: dict[str, Callable[[str], object]] = {
    "sessions": _positive_int,
    "fps": _positive,
    "arrivals": Arrivals,
    "size": _size,
    "format": _one_of(*FORMATS),
    "temporal": _one_of(*FUSIONS),
    "policy": _one_of(*POLICIES),
    "model": str,
    "transport": _one_of(*TRANSPORTS),
}
