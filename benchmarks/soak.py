"""``python -m benchmarks.soak``: hours of load with sessions that come and go, and what the server keeps of them.

A server of its own is loaded to a share of what it can (70 %, from the time that its pictures take), by sessions that
live for seconds and end in every way: half-closed, cancelled, gone before their first frame. Watched are memory, file
descriptors, threads and shared memory. Rest is compared with rest: before the long part, after a first round of the
same load, and behind it.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil

from benchmarks.clients import first_line, precise_loop
from benchmarks.drift import LEAST_SAMPLES, fit, svg_lines
from benchmarks.footage import bounce, load
from benchmarks.machine import describe, usable_cores
from benchmarks.target import LocalServer, TargetError
from humanseg.client import SegmentationClient
from humanseg.errors import SegmentationError
from humanseg.frames import PixelFormat
from humanseg.options import FramePolicy
from humanseg.session_config import SessionConfig
from humanseg.stream import SegmentationStream
from humanseg.vision.arrays import Size

SIZE = Size(640, 360)
STEADY, GROWS, FAILED, INTERRUPTED = 0, 3, 1, 130
#: Sessions live for so many seconds.
LIFE_S = (2.0, 20.0)
#: How long a server at rest gets to close what is still closing.
REST_S = 3.0
PROBE_FRAMES = 60
#: Connections and pool threads that come and go by themselves.
FEW = 2
MIB = 2**20
#: Growth below this is not spoken of: one arena more or less.
LEAST_GROWTH_MIB_PER_HOUR = 2.0
#: A shorter run says nothing of memory: in its first minutes a server's grows in steps, an arena at a time.
LEAST_MINUTES = 20.0
#: This share at the beginning of a run is left out for the same reason.
SETTLING_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Sample:
    """The server at one moment."""

    at_s: float
    rss_mib: float
    file_descriptors: int
    threads: int
    shared_memory_files: int


class Watch:
    """Reads what the operating system knows of the server and its children."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._began_s = time.monotonic()

    def sample(self) -> Sample:
        """The server now.

        Raises:
            psutil.NoSuchProcess: it ended.
        """
        family = [self._process, *self._process.children(recursive=True)]
        return Sample(
            at_s=round(time.monotonic() - self._began_s, 2),
            rss_mib=round(sum(process.memory_info().rss for process in family) / MIB, 2),
            file_descriptors=sum(process.num_fds() for process in family),
            threads=sum(process.num_threads() for process in family),
            shared_memory_files=sum(1 for _ in Path("/dev/shm").iterdir()),
        )


class Load:
    """Sessions that come and go on one server."""

    def __init__(self, address: str, fps: float, seed: int) -> None:
        self._address = address
        self._fps = fps
        self._random = random.Random(seed)
        self._footage = load(None, SIZE, PixelFormat.I420)
        self._config = SessionConfig(size=SIZE, pixel_format=PixelFormat.I420, label="soak")
        self.ended: Counter[str] = Counter()

    async def keep_up(self, sessions: int, until_s: float) -> None:
        """So many at once, each replaced when its life is over, until the monotonic clock says so."""
        async with SegmentationClient(self._address) as client, asyncio.TaskGroup() as group:
            for number in range(sessions):
                group.create_task(self._one_after_another(client, number, until_s))

    async def _one_after_another(self, client: SegmentationClient, number: int, until_s: float) -> None:
        frames = bounce(self._footage, 37 * number)
        while (left_s := until_s - time.monotonic()) > 0:
            life_s = min(left_s, self._random.uniform(*LIFE_S))
            way = self._random.choice(["half-closed", "cancelled", "vanished at once"])
            async with client.stream(self._config) as stream:
                if way != "vanished at once":
                    reading = asyncio.create_task(_read(stream))
                    try:
                        await self._send(stream, frames, time.monotonic() + life_s)
                        if way == "half-closed":
                            await stream.finish()
                            await reading
                    finally:
                        reading.cancel()
                        with suppress(asyncio.CancelledError):
                            await reading
            self.ended[way] += 1

    async def _send(self, stream: SegmentationStream, frames: Any, until_s: float) -> None:
        next_s = time.monotonic()
        while next_s < until_s:
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
            await stream.send(next(frames))
            next_s += 1 / self._fps


async def _read(stream: SegmentationStream) -> None:
    async for _ in stream:
        pass


async def picture_s(address: str) -> float:
    """How long a picture holds a runner: the stage times of frames that come one after another.

    Raises:
        SegmentationError: the server does not serve them.
    """
    frames = bounce(load(None, SIZE, PixelFormat.I420), 0)
    config = SessionConfig(size=SIZE, pixel_format=PixelFormat.I420, frame_policy=FramePolicy.EVERY)
    took_us = []
    async with SegmentationClient(address) as client, client.stream(config) as stream:
        for number in range(PROBE_FRAMES):
            await stream.send(next(frames), capture_time_us=number * 33_333)
            times = (await anext(stream)).times  # type: ignore[union-attr]  # under EVERY each is a mask
            took_us.append(times.total_us - times.wait_us - times.queue_us)
    return sorted(took_us)[len(took_us) // 2] * 1e-6


async def soak(server: LocalServer, options: argparse.Namespace) -> dict[str, Any]:
    """Carry the run out; the figures.

    Raises:
        SegmentationError, TargetError: the server failed meanwhile.
    """
    # The server has one engine thread a core, dealt out to its workers.
    fps = options.load * usable_cores() / await picture_s(server.address) / options.sessions
    watch, pressure = Watch(server.pid), Load(server.address, fps, seed=1)
    seconds = options.minutes * 60
    await pressure.keep_up(options.sessions, time.monotonic() + min(60.0, seconds / 3))
    await asyncio.sleep(REST_S)
    rest_before = watch.sample()
    samples: list[Sample] = []
    async with asyncio.TaskGroup() as group:
        until_s = time.monotonic() + seconds
        keeping = group.create_task(pressure.keep_up(options.sessions, until_s))
        interval_s = max(0.1, min(10.0, seconds / 200))
        while not keeping.done():
            await asyncio.wait([keeping], timeout=interval_s)
            server.check_alive()
            samples.append(watch.sample())
    await asyncio.sleep(REST_S)
    rest_after = watch.sample()
    return {
        "minutes": options.minutes,
        "sessions": options.sessions,
        "fps_each": round(fps, 2),
        "load_ratio": options.load,
        "sessions_ended": dict(pressure.ended),
        "rest_before": asdict(rest_before),
        "rest_after": asdict(rest_after),
        "samples": [asdict(sample) for sample in samples],
        **judge(samples, rest_before, rest_after),
    }


def judge(samples: list[Sample], before: Sample, after: Sample) -> dict[str, Any]:
    """The verdict: what grew, and by how much."""
    complaints = []
    settled = samples[int(SETTLING_SHARE * len(samples)) :]
    minutes = (samples[-1].at_s - samples[0].at_s) / 60 if samples else 0.0
    drift = fit([sample.at_s for sample in settled], [sample.rss_mib for sample in settled])
    if drift is None or minutes < LEAST_MINUTES - 1:
        complaints.append(
            f"{len(samples)} samples in {minutes:.0f} minutes say nothing of memory, {LEAST_SAMPLES} and"
            f" {LEAST_MINUTES:g} are needed: raise --minutes"
        )
    elif drift.grows and drift.per_hour > LEAST_GROWTH_MIB_PER_HOUR:
        complaints.append(
            f"memory grows by {drift.per_hour:.1f} MiB an hour; up to {drift.chance_per_hour:.1f} might be chance"
        )
    for name, allowed in (("file_descriptors", FEW), ("threads", FEW), ("shared_memory_files", 0)):
        was, is_now = getattr(before, name), getattr(after, name)
        if is_now > was + allowed:
            complaints.append(f"{name} at rest: {was} before, {is_now} behind it")
    return {
        "rss_mib_per_hour": None if drift is None else round(drift.per_hour, 2),
        "rss_chance_mib_per_hour": None if drift is None else round(drift.chance_per_hour, 2),
        "steady": not complaints,
        "complaints": complaints,
    }


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M", help="of the long part (default 60)")
    parser.add_argument("--sessions", type=int, default=4, metavar="N", help="at once (default 4)")
    parser.add_argument("--load", type=float, default=0.7, metavar="SHARE", help="of what it can (default 0.7)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes of the server (default 1)")
    parser.add_argument("--models", type=Path, metavar="DIR", help="*.onnx of the server started here")
    parser.add_argument("--out", type=Path, default=Path("out/soak"), metavar="DIR", help="default out/soak")
    return parser.parse_args(arguments)


def main() -> int:
    """The command; exit status 0 steady, 3 something grows (or the run was too short), 1 could not be carried out."""
    options = parse_arguments(sys.argv[1:])
    options.out.mkdir(parents=True, exist_ok=True)
    flags = ["--workers", str(options.workers), "--max-sessions", str(16 * options.sessions * options.workers)]
    flags += ["--models", str(options.models.resolve())] if options.models else []
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    figures: dict[str, Any] | None = None
    try:
        with LocalServer(options.out / "server.log", flags) as server, asyncio.Runner(loop_factory=precise_loop) as run:
            figures = run.run(soak(server, options))
    except* (SegmentationError, TargetError, psutil.NoSuchProcess, OSError) as errors:
        print(f"benchmarks/soak.py: {first_line(errors)}", file=sys.stderr)
    except* KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    if figures is None:
        return FAILED
    (options.out / "report.json").write_text(json.dumps({"machine": describe(), **figures}, indent=1) + "\n")
    samples = figures.pop("samples")
    panels = {key: [sample[key] for sample in samples] for key in samples[0] if key != "at_s"}
    (options.out / "report.svg").write_text(svg_lines([sample["at_s"] for sample in samples], panels))
    print(json.dumps(figures, indent=2))
    print("STEADY" if figures["steady"] else "NOT STEADY: " + "; ".join(figures["complaints"]))
    return STEADY if figures["steady"] else GROWS


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
