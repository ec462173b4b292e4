"""``python -m benchmarks.perf_analyzer``: does NVIDIA's perf_analyzer measure what our own client measures?

Both keep one frame under way in one stream, the next one sent when the mask has come, with the same RGB pictures and
fusion HIGH: perf_analyzer as a sequence of Triton's protocol (docs/kserve.md), `benchmarks.closed_loop` by our own. One
server, in turns and in changing order; what a verdict means is said in `benchmarks.agreement`.
"""

import argparse
import asyncio
import base64
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.agreement import FAILED, INTERRUPTED, SIZE, STATUS, print_rows
from benchmarks.agreement_verdict import MOST_ROUNDS, Round, compare, conclude
from benchmarks.closed_loop import Drive, LoopError, opened
from benchmarks.footage import load
from benchmarks.machine import ROOT, describe
from benchmarks.target import LocalServer, TargetError
from humanseg.frames import PixelFormat
from humanseg.options import TemporalFusion
from humanseg.vision.arrays import Size

SCHEMA = "humanseg.benchmark.perf_analyzer/1"
#: `make perf-analyzer-check` puts the program here, with the two libraries that Debian 12 lacks beside it.
HOME = Path(os.environ.get("PERF_ANALYZER_HOME", Path.home() / ".cache" / "humanseg" / "perf-analyzer"))
#: Different pictures sent, forth and back.
PICTURES = 6
WARMUP_S = 2.0
#: Beyond a second for each request, the program may take so long.
MARGIN_S = 60.0
_COLUMNS = {"p50_ms": "p50 latency", "p90_ms": "p90 latency", "p99_ms": "p99 latency"}


class AnalyzerError(Exception):
    """perf_analyzer is not there, or failed; one line for people."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What perf_analyzer found out."""

    figures: dict[str, float]
    """Its latencies by the keys of `agreement_verdict.ALLOWED`, in ms."""
    per_s: float
    """Masks a second."""
    output: str


def why_not() -> str | None:
    """Why there is no perf_analyzer here; None: there is."""
    if (HOME / "perf_analyzer").is_file():
        return None
    return f"no perf_analyzer in {HOME}; `make perf-analyzer-check` fetches it, PERF_ANALYZER_HOME names its folder"


def analyze(address: str, model: str, size: Size, requests: int, *flags: str) -> Analysis:
    """Let it send so many requests to a server, which takes ``size`` RGB pictures; ``flags`` say how.

    Raises:
        AnalyzerError: it is not there, failed, or took too long.
    """
    if reason := why_not():
        raise AnalyzerError(reason)
    library = f"{HOME / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "report.csv"
        command = [
            str(HOME / "perf_analyzer"), "-m", model, "-u", address, "-i", "grpc",
            "--shape", f"image:{size.height},{size.width},3", "--request-count", str(requests),
            "-f", str(table), *flags,
        ]  # fmt: skip
        limit_s = MARGIN_S + requests
        try:
            done = subprocess.run(
                command, env={**os.environ, "LD_LIBRARY_PATH": library}, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=limit_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise AnalyzerError(f"perf_analyzer took more than {limit_s:.0f} s for {requests} requests") from None
        if done.returncode or not table.exists():
            raise AnalyzerError(f"perf_analyzer ended with {done.returncode}: {_last_line(done.stdout)}")
        (row,) = csv.DictReader(table.read_text().splitlines())
    figures = {key: int(row[column]) / 1000 for key, column in _COLUMNS.items()}
    return Analysis(figures, float(row["Inferences/Second"]), done.stdout)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def write_pictures(file: Path, pictures: Sequence[bytes], size: Size) -> None:
    """RGB24 pictures as perf_analyzer's ``--input-data``, a step each."""
    shape = [size.height, size.width, 3]
    steps = [{"image": {"content": {"b64": base64.b64encode(p).decode()}, "shape": shape}} for p in pictures]
    file.write_text(json.dumps({"data": [steps]}))


async def own_latencies(address: str, drive: Drive, requests: int) -> dict[str, float]:
    """Percentiles by our own protocol, by the keys of `agreement_verdict.ALLOWED`.

    Raises:
        LoopError: the server does not answer as it should.
    """
    async with opened(address, drive) as loop:
        await loop.run(WARMUP_S)
        seen: list[float] = []
        while len(seen) < requests:
            seen += (await loop.run(1.0)).latencies_ms
    return {f"p{q}_ms": float(np.percentile(seen[:requests], q)) for q in (50, 90, 99)}


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.perf_analyzer",
        description=(__doc__ or "").split("\n\n")[0].partition(": ")[2],
        epilog="exit status: 0 AGREE, 3 DISAGREE, 4 UNDECIDED, 1 could not be measured, 2 usage, 130 interrupted",
    )
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="runs of each client (default 6)")
    parser.add_argument("--requests", type=int, default=600, metavar="N", help="frames of each run (default 600)")
    parser.add_argument("--models", type=Path, metavar="DIR", help="*.onnx of the server started here")
    parser.add_argument("--model", default="medium", metavar="NAME", help="default medium")
    parser.add_argument("--server-cpus", metavar="LIST", help="pin the server to these CPUs, as 0,2-3")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "perf-analyzer", metavar="DIR")
    options = parser.parse_args(arguments)
    if not 2 <= options.rounds <= MOST_ROUNDS:
        parser.error(f"--rounds {options.rounds}: 2 to {MOST_ROUNDS} are possible")
    if options.requests < 10:
        parser.error(f"--requests {options.requests}: take at least 10")
    return options


def measure(options: argparse.Namespace, console: Console) -> str:
    """Let both measure, show and write what came of it; the verdict.

    Raises:
        AnalyzerError, LoopError, TargetError, OSError: it could not be measured.
    """
    if reason := why_not():
        raise AnalyzerError(reason)
    options.out.mkdir(parents=True, exist_ok=True)
    forth = load(None, SIZE, PixelFormat.RGB24)[:PICTURES]
    pictures = [*forth, *forth[-2:0:-1]]
    drive = Drive(
        SIZE, tuple(pictures), TemporalFusion.HIGH, sessions=1, under_way=1, model=options.model,
        pixel_format=PixelFormat.RGB24,
    )  # fmt: skip
    flags = ["--kserve", "--max-messages-per-s", "0"]
    flags += ["--models", str(options.models.resolve())] if options.models else []
    machine, rounds = describe(), list[Round]()
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalServer(options.out / "server.log", flags, cpus=options.server_cpus) as server,
    ):
        data = Path(folder) / "pictures.json"
        write_pictures(data, pictures, SIZE)
        # One sequence for the whole run, as the other side has one stream.
        how = ("--input-data", str(data), "--streaming", "--async", "--sequence-length", str(2 * options.requests))

        def theirs() -> dict[str, float]:
            return analyze(server.address, options.model, SIZE, options.requests, *how).figures

        def ours() -> dict[str, float]:
            return asyncio.run(own_latencies(server.address, drive, options.requests))

        for number in range(options.rounds):
            console.print(f"round {number + 1} of {options.rounds}", style="dim")
            # Who comes first changes, so that a machine that gets warm favours nobody.
            if number % 2:
                independent = theirs()
                rounds.append(Round(ours(), independent))
            else:
                benchmark = ours()
                rounds.append(Round(benchmark, theirs()))
        server.check_alive()
    rows = compare(rounds)
    verdict = conclude(rows, [])
    report = {
        "schema": SCHEMA, "verdict": verdict, "requests": options.requests, "rows": [asdict(row) for row in rows],
        "rounds": [asdict(one) for one in rounds], "machine": machine,
    }  # fmt: skip
    (options.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_rows(rows, console, "perf_an.")
    console.print(f"{verdict}  {options.rounds} rounds, {options.out / 'report.json'}", highlight=False, soft_wrap=True)
    return verdict


def main() -> int:
    """The command; its exit status."""
    options = parse_arguments(sys.argv[1:])
    try:
        return STATUS[measure(options, Console())]
    except (AnalyzerError, LoopError, TargetError, OSError) as error:
        print(f"benchmarks/perf_analyzer.py: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("benchmarks/perf_analyzer.py: interrupted; server and clients are stopped", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
