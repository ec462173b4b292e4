"""``python -m benchmarks.overload``: offer a server more live sessions than fit, and see what becomes of them.

Open loop, as `benchmarks.run`: those that are admitted send at their times, and latency counts from there. The verdict
is "held" if p99 of the admitted is within the deadline that their frames have, and every refusal came within 50 ms.
"""

import argparse
import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.arrivals import Arrivals, plan_ns
from benchmarks.clients import OFFSET_FRAMES, Session, first_line, precise_loop
from benchmarks.footage import bounce, load
from benchmarks.plan import LoadPlan, Outcome
from benchmarks.target import LocalServer, TargetError
from humanseg.client import SegmentationClient
from humanseg.errors import OverloadedError, SegmentationError
from humanseg.frames import PixelFormat
from humanseg.session_config import SessionConfig
from humanseg.vision.arrays import Size

REFUSED_WITHIN_MS = 50.0
HELD, NOT_HELD, FAILED = 0, 3, 1
SIZE = Size(640, 360)
#: Between two sessions that come, in seconds.
COMES_EVERY_S = 0.1
#: Of each session, not counted.
WARMUP_S = 1.0


@dataclass
class Offered:
    """What became of the sessions."""

    admitted: int = 0
    refused_ms: list[float] = field(default_factory=list)
    """From sending the config to the refusal, without the opening of the connection."""
    outcome: Outcome = field(default_factory=Outcome)


async def offer(address: str, options: argparse.Namespace) -> Offered:
    """Let the sessions come one after another, and drive those that get in until the time is over.

    Raises:
        SegmentationError: a session that was admitted failed.
    """
    offered = Offered()
    footage = load(None, SIZE, PixelFormat.I420)
    config = SessionConfig(
        size=SIZE, pixel_format=PixelFormat.I420, label="overload", frame_deadline_s=options.deadline_ms / 1000
    )
    plan = LoadPlan(
        address, options.sessions, options.fps, WARMUP_S, max(options.seconds - WARMUP_S, 1.0), Arrivals.PACED, seed=1,
        model="", width=SIZE.width, height=SIZE.height, pixel_format="i420", temporal="high", clip=None,
    )  # fmt: skip
    stays = plan_ns(plan.arrivals, plan.sessions, plan.fps, plan.duration_s, plan.seed)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        client = await stack.enter_async_context(SegmentationClient(address))

        async def drive(session: Session, stream: Any) -> None:
            await session.drive(stream, time.monotonic_ns(), client, config)
            offered.outcome.merge(session.outcome)

        for number in range(options.sessions):
            session = Session(number, plan, stays[number], bounce(footage, number * OFFSET_FRAMES))
            # A first call opens the connection, which is no part of the refusal.
            await client.list_models()
            began_ns = time.monotonic_ns()
            try:
                stream = await stack.enter_async_context(client.stream(config))
            except OverloadedError:
                offered.refused_ms.append((time.monotonic_ns() - began_ns) / 1e6)
            else:
                offered.admitted += 1
                group.create_task(drive(session, stream))
            await asyncio.sleep(COMES_EVERY_S)
    return offered


def judge(offered: Offered, options: argparse.Namespace) -> dict[str, Any]:
    """The figures, and whether they hold."""
    latency = offered.outcome.recorder.latency
    figures = {
        "sessions_offered": options.sessions,
        "sessions_admitted": offered.admitted,
        "fps": options.fps,
        "deadline_ms": options.deadline_ms,
        "masks": offered.outcome.frames["masks"],
        "dropped": dict(offered.outcome.dropped),
        "latency": latency.summary(),
        "refused_max_ms": round(max(offered.refused_ms, default=0.0), 1),
    }
    complaints = []
    if options.sessions < 2 * offered.admitted:
        complaints.append(f"{offered.admitted} of {options.sessions} fit: offer at least twice as many (--sessions)")
    if latency.percentile_ms(99) > options.deadline_ms:
        complaints.append(f"p99 is {latency.percentile_ms(99):.0f} ms, the deadline {options.deadline_ms:g} ms")
    if figures["refused_max_ms"] > REFUSED_WITHIN_MS:
        complaints.append(f"a refusal took {figures['refused_max_ms']} ms, allowed are {REFUSED_WITHIN_MS:g} ms")
    return {**figures, "held": not complaints, "complaints": complaints}


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--sessions", type=int, default=8, metavar="N", help="sessions that come (default 8)")
    parser.add_argument("--fps", type=float, default=30.0, help="frames a second of each (default 30)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="how long each sends, the first second not counted (default 10)",
    )
    parser.add_argument("--deadline-ms", type=float, default=200.0, help="of each frame (default 200)")
    parser.add_argument("--models", type=Path, metavar="DIR", help="*.onnx of the server started here")
    parser.add_argument("--out", type=Path, default=Path("out/overload"), metavar="DIR", help="default out/overload")
    return parser.parse_args(arguments)


def main() -> int:
    """The command; exit status 0 held, 3 not held (the figures say why), 1 could not be measured."""
    options = parse_arguments(sys.argv[1:])
    options.out.mkdir(parents=True, exist_ok=True)
    flags = ["--admission-load", "0.9", "--admission-fps", str(options.fps)]
    flags += ["--models", str(options.models.resolve())] if options.models else []
    figures: dict[str, Any] | None = None
    try:
        with LocalServer(options.out / "server.log", flags) as server, asyncio.Runner(loop_factory=precise_loop) as run:
            figures = judge(run.run(offer(server.address, options)), options)
    except* (SegmentationError, TargetError, OSError) as errors:
        print(f"benchmarks/overload.py: {first_line(errors)}", file=sys.stderr)
    if figures is None:
        return FAILED
    (options.out / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return HELD if figures["held"] else NOT_HELD


if __name__ == "__main__":
    sys.exit(main())
