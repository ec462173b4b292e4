"""``python -m benchmarks.agreement``: do the benchmark's figures agree with those of an independent client?

Both drive the same server with the same frames at the same times, in turns. Each round gives a difference for each
figure, and the rounds an interval of the mean difference (Student's t, 95 %), so that what changes from run to run is
in it. AGREE: the interval lies within what is allowed; DISAGREE: outside; else UNDECIDED, and more rounds are needed.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from benchmarks.agreement_verdict import (
    AGREE,
    ALLOWED,
    DISAGREE,
    MOST_ROUNDS,
    UNDECIDED,
    Round,
    Row,
    compare,
    conclude,
    figures_of,
)
from benchmarks.arrivals import NS_PER_S, Arrivals, plan_ns
from benchmarks.conductor import LoadError
from benchmarks.footage import load
from benchmarks.machine import ROOT, describe
from benchmarks.measuring import Bench, open_server
from benchmarks.plan import LoadPlan
from benchmarks.scrape import ScrapeError
from benchmarks.target import LocalServer, TargetError
from benchmarks.validity import MAX_SEND_LAG_P99_MS
from humanseg.frames import PixelFormat
from humanseg.vision.arrays import Size

SCHEMA = "humanseg.benchmark.agreement/1"
#: Exit statuses; 1 is "could not be measured".
STATUS = {AGREE: 0, DISAGREE: 3, UNDECIDED: 4}
FAILED, INTERRUPTED = 1, 130
SIZE = Size(640, 360)
SHORT_NAMES = {"p50_ms": "p50 ms", "p90_ms": "p90 ms", "p99_ms": "p99 ms", "cpu_ms_per_mask": "CPU ms"}
#: Beyond its own duration, an independent client may take so long to start and to wait for its answers.
MARGIN_S = 60.0


class IndependentError(Exception):
    """The independent client failed; one line for people."""


class Duel:
    """Both clients against one server, with the same plan."""

    def __init__(self, bench: Bench, plan: LoadPlan, pid: int | None, frames: Path) -> None:
        """``pid``: of the server, for the independent client; ``frames``: the footage that it sends."""
        self.runs: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
        """Of the benchmark (`run_figures`) and of the independent client, a pair for each round."""
        self._bench = bench
        self._plan = plan
        self._pid = pid
        self._frames = frames

    def fight(self, rounds: int) -> None:
        """So many rounds; who comes first changes, so that a machine that gets warm favours nobody.

        Raises:
            IndependentError, LoadError, ScrapeError, TargetError: a run could not be carried out.
        """
        for number in range(rounds):
            what = f"round {number + 1} of {rounds}, "
            if number % 2:
                theirs = self._independent()
                ours = self._bench.run(self._plan, what)
            else:
                ours = self._bench.run(self._plan, what)
                theirs = self._independent()
            self.runs.append((ours, theirs))

    def rounds(self, latency: str = "latency_from_intended_send") -> list[Round]:
        """The figures side by side; ``latency`` is the one to hold against the independent client's."""
        return [
            Round(figures_of(ours, latency), {key: theirs[key] for key in ALLOWED if theirs[key] is not None})
            for ours, theirs in self.runs
        ]

    def complaints(self) -> list[str]:
        """Why runs must not be quoted, each reason once, by the first run that had it."""
        found = list(chain.from_iterable(ours["complaints"] for ours, _ in self.runs))
        for ours, theirs in self.runs:
            if theirs["send_lag_p99_ms"] > MAX_SEND_LAG_P99_MS:
                found.append(
                    f"the independent client lags: p99 of its send times is {theirs['send_lag_p99_ms']:.1f} ms late,"
                    f" allowed are {MAX_SEND_LAG_P99_MS:.1f} ms; free a CPU core for it"
                )
            if theirs["sent"] != ours["frames"]["sent"]:
                found.append(f"the clients sent {ours['frames']['sent']} and {theirs['sent']} frames by the same plan")
        by_reason: dict[str, list[str]] = {}
        for text in found:
            by_reason.setdefault(text.partition(":")[0], []).append(text)
        return [texts[0] + (f" ({len(texts)} runs)" if len(texts) > 1 else "") for texts in by_reason.values()]

    def _independent(self) -> dict[str, Any]:
        plan = self._plan
        stays = plan_ns(plan.arrivals, plan.sessions, plan.fps, plan.duration_s, plan.seed)
        command = [
            sys.executable, "-m", "benchmarks.independent",
            "--target", self._bench.target.address,
            "--frames", str(self._frames),
            "--size", f"{plan.width}x{plan.height}",
            "--phases", ",".join(f"{stay[0][0] / NS_PER_S:.9f}" for stay in stays),
            "--fps", str(plan.fps),
            "--seconds", str(plan.measured_s),
            "--warmup-s", str(plan.warmup_s),
            "--temporal", plan.temporal,
            "--policy", plan.policy,
        ]  # fmt: skip
        command += ["--pid", str(self._pid)] if self._pid else []
        limit_s = plan.duration_s + MARGIN_S
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise IndependentError(
                f"the independent client took more than {limit_s:.0f} s; take a lower load"
            ) from None
        if done.returncode:
            self._bench.target.check_alive()
            raise IndependentError(done.stderr.strip() or f"the independent client ended with {done.returncode}")
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures


def write_frames(folder: Path, size: Size) -> Path:
    """The benchmark's drawn footage as I420 frames in one file, forth and back."""
    frames = load(None, size, PixelFormat.I420)
    file = folder / "frames.i420"
    file.write_bytes(b"".join([*frames, *frames[-2:0:-1]]))
    return file


def print_rows(rows: Sequence[Row], console: Console, other: str = "plain") -> None:
    """Show the figures side by side; ``other`` is the independent client."""
    table = Table(header_style="bold", box=None, padding=(0, 2, 0, 0))
    # Whole within the 80 columns of a terminal that says nothing about itself.
    for name in ("", "benchmark", other, "difference", "95 %", "allowed", ""):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in rows:
        low, high = row.interval
        table.add_row(
            SHORT_NAMES[row.figure], f"{row.benchmark:.2f}", f"{row.independent:.2f}", f"{row.difference:+.2f}",
            f"{low:+.2f}, {high:+.2f}", f"{row.allowed:.2f}", row.verdict,
        )  # fmt: skip
    console.print(table)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.agreement",
        description=(__doc__ or "").split("\n\n")[0].partition(": ")[2],
        epilog="exit status: 0 AGREE, 3 DISAGREE, 4 UNDECIDED, 1 could not be measured, 2 usage, 130 interrupted",
    )
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="runs of each client (default 6)")
    parser.add_argument("--sessions", type=int, default=2, metavar="N", help="streams at once (default 2)")
    parser.add_argument("--fps", type=float, default=30.0, help="frames a second of each (default 30)")
    parser.add_argument("--seconds", type=float, default=17.0, metavar="S", help="measured part (default 17)")
    parser.add_argument("--warmup-s", type=float, default=1.0, metavar="S", help="left out before it (default 1)")
    parser.add_argument("--temporal", choices=("off", "low", "high"), default="high", help="fusion (default high)")
    parser.add_argument("--policy", choices=("newest", "every"), default="newest", help="default newest")
    parser.add_argument("--models", type=Path, metavar="DIR", help="*.onnx of the server started here")
    parser.add_argument("--server-cpus", metavar="LIST", help="pin the server to these CPUs, as 0,2-3")
    parser.add_argument("--out", type=Path, default=Path("out/agreement"), metavar="DIR", help="default out/agreement")
    options = parser.parse_args(arguments)
    if not 2 <= options.rounds <= MOST_ROUNDS:
        parser.error(f"--rounds {options.rounds}: 2 to {MOST_ROUNDS} are possible")
    if options.sessions < 1 or options.fps <= 0 or options.seconds <= 0 or options.warmup_s < 0:
        parser.error("--sessions, --fps and --seconds must be above 0, --warmup-s not below")
    return options


def measure(options: argparse.Namespace, console: Console) -> str:
    """Let both clients measure, show and write what came of it; the verdict.

    Raises:
        IndependentError, LoadError, ScrapeError, TargetError, OSError: it could not be measured.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    plan = LoadPlan(
        "", options.sessions, options.fps, options.warmup_s, options.seconds, Arrivals.PACED, seed=1, model="",
        width=SIZE.width, height=SIZE.height, pixel_format="i420", temporal=options.temporal, clip=None,
        policy=options.policy,
    )  # fmt: skip
    server = open_server(
        target=None, metrics_url=None, log_path=options.out / "server.log", models=options.models, flags=[],
        cpus=options.server_cpus,
    )  # fmt: skip
    machine = describe()
    with tempfile.TemporaryDirectory() as folder, Bench(server, None, console) as bench:
        pid = bench.target.pid if isinstance(bench.target, LocalServer) else None
        duel = Duel(bench, plan, pid, write_frames(Path(folder), SIZE))
        duel.fight(options.rounds)
    rows, complaints = compare(duel.rounds()), duel.complaints()
    verdict = conclude(rows, complaints)
    figures = {
        "schema": SCHEMA,
        "verdict": verdict,
        "complaints": complaints,
        "rows": [asdict(row) for row in rows],
        "rounds": [{"benchmark": ours, "independent": theirs} for ours, theirs in duel.runs],
        "machine": machine,
    }
    (options.out / "report.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print_rows(rows, console)
    for complaint in complaints:
        console.print(f"INVALID  {complaint}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{verdict}  {options.rounds} rounds, {options.out / 'report.json'}", highlight=False, soft_wrap=True)
    return verdict


def main() -> int:
    """The command; its exit status."""
    options = parse_arguments(sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return STATUS[measure(options, Console())]
    except (IndependentError, LoadError, ScrapeError, TargetError, OSError) as error:
        print(f"benchmarks/agreement.py: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("benchmarks/agreement.py: interrupted; server and clients are stopped", file=sys.stderr)
        return INTERRUPTED


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
