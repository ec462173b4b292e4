"""``python -m benchmarks.hostile``: do sessions keep their latency beside clients that behave badly?

The same load is measured alone and beside a slow reader, clients that connect and vanish, and idle streams, in turns
(alone, beside, beside, alone) on one server in one run. "held": p99 beside is at most 1.3 times p99 alone. INVALID,
with what to do, where the load generator lagged or the hostile clients did not get done what they should have.
"""

import argparse
import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arrivals import Arrivals
from benchmarks.conductor import Finished, LoadError, conduct
from benchmarks.hostile_clients import CALL, CONFIG, WAYS, HostilePlan
from benchmarks.http2 import FIRST_WINDOW
from benchmarks.machine import ROOT
from benchmarks.plan import LoadPlan, Outcome
from benchmarks.scrape import ScrapeError
from benchmarks.slices import percentile_ratio_interval
from benchmarks.target import LocalServer, Target, TargetError
from benchmarks.validity import judge as judge_run
from humanseg.v1 import segmentation_pb2 as pb

HELD, NOT_HELD, FAILED = 0, 3, 1
#: By how much p99 may grow.
MOST_RATIO = 1.3
#: Of what the hostile clients were to do, so much must have happened.
LEAST_DONE = 0.9
PATH = "/humanseg.v1.SegmentationService/StreamSegment"
START_TIMEOUT_S, END_TIMEOUT_S = 60.0, 10.0


@dataclass(frozen=True, slots=True)
class Part:
    """One measurement of the load."""

    beside: bool
    """Whether the hostile clients were there."""
    finished: Finished
    hostile_s: float = 0.0
    counts: Counter[str] | None = None
    """What the hostile clients did, all the time that they were there."""

    @property
    def server_cpu_s(self) -> float:
        """CPU time of the server in the measured part; 0 where it cannot be seen."""
        before, after = self.finished.before.usage, self.finished.after.usage
        return after.cpu_s - before.cpu_s if before and after else 0.0

    def grown(self, metric: str) -> float:
        """By how much a counter of the server grew in the measured part."""
        before, after = self.finished.before.metrics, self.finished.after.metrics
        return after.since(before).value(metric) if before and after else 0.0


def hostile_plan(address: str, options: argparse.Namespace) -> HostilePlan:
    """What the hostile clients do to a server at an address."""
    live = pb.SessionConfig(width=640, height=360, pixel_format=pb.PIXEL_FORMAT_I420, session_label="vanishes")
    idle = pb.SessionConfig(
        width=16, height=16, pixel_format=pb.PIXEL_FORMAT_RGB24, frame_policy=pb.FRAME_POLICY_EVERY,
        session_label="idle",
    )  # fmt: skip
    slow = pb.SessionConfig()
    slow.CopyFrom(idle)
    # Answers of 2 MB to frames of a kilobyte: the first one does not fit into an unread window.
    slow.mask_width, slow.mask_height, slow.session_label = 1920, 1080, "does not read"
    frames: list[str] = []
    room = FIRST_WINDOW - 1000  # for the config
    while room > 0:
        frame = pb.Frame(frame_id=len(frames) + 1, capture_time_us=33_333 * len(frames), picture=bytes(16 * 16 * 3))
        message = pb.StreamSegmentRequest(frame=frame).SerializeToString()
        frames.append(message.hex())
        room -= len(message) + 5
    host, _, port = address.rpartition(":")
    live_hex, idle_hex, slow_hex = (
        pb.StreamSegmentRequest(config=one).SerializeToString().hex() for one in (live, idle, slow)
    )
    return HostilePlan(
        host=host, port=int(port), path=PATH, connects_per_s=options.connects, idle_streams=options.idle,
        slow_readers=options.slow_readers, live_config=live_hex, idle_config=idle_hex, slow_config=slow_hex,
        slow_frames=frames[:-1],
    )  # fmt: skip


@asynccontextmanager
async def hostile_clients(plan: HostilePlan, said: dict[str, Any]) -> AsyncIterator[None]:
    """Have them there, their streams open; what they did is in ``said`` afterwards.

    Raises:
        LoadError: they could not begin, or ended too early.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.hostile_clients", cwd=ROOT, stdin=PIPE, stdout=PIPE, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None

    async def line(event: str, limit_s: float) -> dict[str, Any]:
        assert process.stdout is not None
        try:
            text = await asyncio.wait_for(process.stdout.readline(), limit_s)
        except TimeoutError:
            raise LoadError(f"the hostile clients did not say {event!r} within {limit_s:g} s") from None
        message: dict[str, Any] = json.loads(text) if text else {"event": "failed", "message": "they ended"}
        if message["event"] != event:
            raise LoadError(f"the hostile clients failed: {message.get('message', message)}")
        return message

    try:
        process.stdin.write(plan.to_json().encode() + b"\n")
        await line("opened", START_TIMEOUT_S)
        yield
        process.stdin.close()
        said |= await line("done", END_TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def measure(target: Target, options: argparse.Namespace) -> list[Part]:
    """All parts, one after the other.

    Raises:
        LoadError, TargetError, ScrapeError: one could not be carried out.
    """
    parts: list[Part] = []
    for number in range(2 * options.rounds):
        beside = number % 4 in (1, 2)
        plan = LoadPlan(
            target.address, options.sessions, options.fps, options.warmup_s, options.seconds, Arrivals.PACED,
            seed=number // 2, model="", width=640, height=360, pixel_format="i420", temporal="high", clip=None,
        )  # fmt: skip
        if beside:
            said: dict[str, Any] = {}
            async with hostile_clients(hostile_plan(target.address, options), said):
                finished = await conduct(plan, 1, target, lambda _share: None)
            parts.append(Part(beside, finished, said["seconds"], Counter(said["counts"])))
        else:
            parts.append(Part(beside, await conduct(plan, 1, target, lambda _share: None)))
    return parts


def summed(parts: Sequence[Part]) -> Outcome:
    """What all sessions saw in these parts."""
    outcome = Outcome()
    for part in parts:
        outcome.merge(part.finished.outcome)
    return outcome


def histograms(parts: Sequence[Part]) -> list[Counter[int]]:
    """The latencies by slices of time, one part behind the other."""
    return [one.latency_us for part in parts for one in part.finished.outcome.slices]


def judge(parts: Sequence[Part], options: argparse.Namespace) -> dict[str, Any]:
    """The figures, and whether they hold."""
    alone = [part for part in parts if not part.beside]
    beside = [part for part in parts if part.beside]
    quiet, disturbed = summed(alone), summed(beside)
    p99_alone, p99_beside = (one.recorder.latency.percentile_ms(99) for one in (quiet, disturbed))
    ratio = p99_beside / p99_alone if p99_alone else 0.0
    interval = percentile_ratio_interval(histograms(beside), histograms(alone), rank=99)
    counts: Counter[str] = sum((part.counts for part in beside if part.counts), Counter())
    connects = sum(counts[way] for way in WAYS)
    # Only calls are seen by the service itself; they came all the time that the hostile clients were there.
    calls_per_s = (counts[CALL] + counts[CONFIG]) / sum(part.hostile_s for part in beside)
    measured_s = len(beside) * options.seconds
    seen_per_s = sum(part.grown("humanseg_sessions_admitted_total") for part in beside) / measured_s
    cpu_alone, cpu_beside = (sum(part.server_cpu_s for part in group) / measured_s for group in (alone, beside))
    done = connects / sum(part.hostile_s for part in beside)

    invalid = [
        f"{name}: {complaint}"
        for name, outcome, group in (("alone", quiet, alone), ("beside", disturbed, beside))
        for complaint in judge_run(
            outcome.recorder, outcome.frames["unanswered"], max(part.finished.clock_jump_ms for part in group)
        ).complaints
    ]
    if done < LEAST_DONE * options.connects:
        invalid.append(f"the hostile clients made {done:.0f} connects a second of {options.connects:g}: free a CPU")
    if seen_per_s < LEAST_DONE * calls_per_s:
        invalid.append(f"of {calls_per_s:.0f} calls a second that vanish the server saw {seen_per_s:.0f}")
    if counts["idle_ended"]:
        invalid.append(f"{counts['idle_ended']} idle streams ended early; lower --seconds, or look at the server's log")
    not_held = [f"p99 is {ratio:.2f} times that alone, allowed are {MOST_RATIO:g}"] if ratio > MOST_RATIO else []
    return {
        "sessions": options.sessions,
        "fps": options.fps,
        "alone": quiet.recorder.latency.summary(),
        "beside": disturbed.recorder.latency.summary(),
        "p99_ratio": round(ratio, 3),
        "p99_ratio_ci95": [round(end, 3) for end in interval] if interval else None,
        "send_lag_p99_ms": {
            "alone": round(quiet.recorder.send_lag.percentile_ms(99), 3),
            "beside": round(disturbed.recorder.send_lag.percentile_ms(99), 3),
        },
        "dropped": {"alone": dict(quiet.dropped), "beside": dict(disturbed.dropped)},
        "hostile": {
            "connects_per_s": round(done, 1),
            "by_way": {way: counts[way] for way in WAYS},
            "not_taken": counts["not_taken"],
            "calls_seen_by_the_server_per_s": round(seen_per_s, 1),
            "idle_streams": counts["idle_opened"] // len(beside),
            "slow_readers": options.slow_readers,
        },
        "server_cpu_s_per_s": {"alone": round(cpu_alone, 4), "beside": round(cpu_beside, 4)},
        "valid": not invalid,
        "held": not invalid and not not_held,
        "complaints": invalid + not_held,
    }


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--sessions", type=int, default=2, metavar="N", help="sessions that are measured (default 2)")
    parser.add_argument("--fps", type=float, default=30.0, help="frames a second of each (default 30)")
    parser.add_argument("--seconds", type=float, default=15.0, metavar="S", help="length of a part (default 15)")
    parser.add_argument("--warmup-s", type=float, default=1.0, metavar="S", help="before each part (default 1)")
    parser.add_argument("--rounds", type=int, default=4, metavar="N", help="parts alone, and beside (default 4)")
    parser.add_argument(
        "--connects", type=float, default=200.0, metavar="N", help="connects and vanishes a second (default 200)"
    )
    parser.add_argument("--idle", type=int, default=100, metavar="N", help="idle streams (default 100)")
    parser.add_argument("--slow-readers", type=int, default=1, metavar="N", help="streams nobody reads (default 1)")
    parser.add_argument("--models", type=Path, metavar="DIR", help="*.onnx of the server started here")
    parser.add_argument("--out", type=Path, default=Path("out/hostile"), metavar="DIR", help="default out/hostile")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds}: a part alone and one beside it are no comparison; at least 2")
    return options


def main() -> int:
    """The command; exit status 0 held, 3 not held or INVALID (the figures say why), 1 could not be measured."""
    options = parse_arguments(sys.argv[1:])
    options.out.mkdir(parents=True, exist_ok=True)
    flags = ["--max-sessions", str(options.sessions + options.idle + options.slow_readers + 200)]
    flags += ["--models", str(options.models.resolve())] if options.models else []
    try:
        with LocalServer(options.out / "server.log", flags) as server:
            figures = judge(asyncio.run(measure(server, options)), options)
    except (LoadError, TargetError, ScrapeError, OSError) as error:
        print(f"benchmarks/hostile.py: {error}", file=sys.stderr)
        return FAILED
    (options.out / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return HELD if figures["held"] else NOT_HELD


if __name__ == "__main__":
    sys.exit(main())
