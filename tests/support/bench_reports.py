"""Reports of runs that never were: latencies drawn by a seed, so that pages and comparisons have something to show."""

import copy
import random
from collections import Counter
from functools import cache
from typing import Any

from benchmarks.arrivals import Arrivals
from benchmarks.conductor import Finished, Reading, Sample
from benchmarks.figures import run_figures
from benchmarks.plan import ON_TIME_MS, LoadPlan, Outcome, Served, SessionFigures
from benchmarks.recording import FrameTimes, Histogram
from benchmarks.report import ServerFacts, build
from benchmarks.scrape import parse
from benchmarks.slices import Slice, coarse_us, count_slices, slice_length_s
from benchmarks.target import Usage
from benchmarks.validity import judge

MACHINE = {
    "cpu_model": "a CPU <of 2026> & more",
    "cpu_cores_logical": 4,
    "cpu_cores_usable": 2,
    "memory_bytes": 8 * 2**30,
    "load_average_1min": 0.2,
    "system": "Linux",
    "python": "3.11.7",
    "packages": {"numpy": "2.4.6"},
    "git_commit": "0123456789ab",
}
#: Shares of the time in the server.
SHARES = {"wait": 0.02, "preprocess": 0.03, "queue": 0.1, "inference": 0.65, "fusion": 0.12, "postprocess": 0.02}


def plan(sessions: int = 2, fps: float = 30.0, measured_s: float = 20.0) -> LoadPlan:
    return LoadPlan(
        "127.0.0.1:1", sessions, fps, 1.0, measured_s, Arrivals.PACED, 1, "", 640, 360, "i420", "high",
        "/some/where/talk.mp4",
    )  # fmt: skip


def figures(load: LoadPlan, median_ms: float = 18.0, drop_share: float = 0.0, seed: int = 1) -> dict[str, Any]:
    """A run whose latencies are lognormal round a median, with a share of the frames dropped."""
    return copy.deepcopy(_figures(load, median_ms, drop_share, seed))


@cache
def _figures(load: LoadPlan, median_ms: float, drop_share: float, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    outcome = Outcome(first_mask_ms=[30.0 + number for number in range(load.sessions)])
    outcome.slices = [Slice() for _ in range(count_slices(load.measured_s))]
    outcome.stages = {name: Histogram() for name in (*SHARES, "unexplained", "total", "transport")}
    for session in range(load.sessions):
        own = Histogram()
        frames = Counter[str]()
        for number in range(round(load.fps * load.measured_s)):
            intended_ns = round(number / load.fps * 1e9)
            one = outcome.slices[min(int(intended_ns / 1e9 / slice_length_s(load.measured_s)), len(outcome.slices) - 1)]
            times = FrameTimes(intended_ns, intended_ns, intended_ns + 100_000)
            outcome.recorder.sent(times)
            frames["sent"] += 1
            one.counts["sent"] += 1
            if rng.random() < drop_share:
                outcome.dropped["SUPERSEDED"] += 1
                one.counts["dropped"] += 1
                continue
            latency_us = median_ms * 1000 * rng.lognormvariate(0, 0.18)
            outcome.recorder.answered(times, intended_ns + round(latency_us * 1000))
            own.record_us(latency_us)
            frames["masks"] += 1
            one.counts["masks"] += 1
            one.latency_us[coarse_us(latency_us)] += 1
            for limit_ms in ON_TIME_MS:
                is_on_time = latency_us <= limit_ms * 1000
                outcome.on_time[str(limit_ms)] += is_on_time
                one.counts[f"on_time_{limit_ms}"] += is_on_time
            total_us = 0.85 * latency_us
            for name, share in SHARES.items():
                outcome.stages[name].record_us(share * total_us)
            outcome.stages["unexplained"].record_us((1 - sum(SHARES.values())) * total_us)
            outcome.stages["total"].record_us(total_us)
            outcome.stages["transport"].record_us(latency_us - total_us - 100)
        outcome.frames += frames
        percentiles = (own.percentile_ms(50), own.percentile_ms(99), own.max_ms)
        outcome.sessions.append(SessionFigures(session, frames["sent"], frames["masks"], *percentiles))
    masks = outcome.frames["masks"]
    page = (
        'humanseg_frames_total{{outcome="mask",reason=""}} {0}\n'
        'humanseg_stage_cpu_seconds_total{{stage="inference"}} {1}\n'
        'humanseg_batch_frames_bucket{{model="medium",le="1"}} {2}\n'
        'humanseg_batch_frames_bucket{{model="medium",le="2"}} {3}\n'
        'humanseg_batch_frames_bucket{{model="medium",le="+Inf"}} {3}\n'
    )
    before = Reading(Usage(0.0, 200 * 2**20), parse(page.format(0, 0, 0, 0)))
    after = Reading(
        Usage(masks * 0.019, 203 * 2**20), parse(page.format(masks, masks * 0.016, masks * 0.8, masks * 0.9))
    )
    samples = tuple(
        Sample(float(second), Usage(second * 1.1, 200 * 2**20 + second * 2**17))
        for second in range(int(load.measured_s) + 1)
    )
    finished = Finished(outcome, Served("medium", "7", "onnxruntime-cpu", 320, 192), before, after, 180.0, 0.1, samples)
    return run_figures(load, finished, judge(outcome.recorder, 0, 0.1))


def report(
    median_ms: float = 18.0, measured_s: float = 20.0, exit_status: int = 0, seed: int = 1, fps: float = 30.0
) -> dict[str, Any]:
    """A whole run: the main load and a ladder of three, the last of which is too much."""
    ladder = [
        figures(plan(1, 30.0, 4.0), 0.9 * median_ms),
        figures(plan(3, 33.0, 4.0), 1.3 * median_ms),
        figures(plan(5, 30.0, 4.0), 4.0 * median_ms, drop_share=0.4),
        {"load": figures(plan(9, 30.0, 1.0))["load"], "failed": "RESOURCE_EXHAUSTED: 8 sessions are open"},
    ]
    return build(
        main=figures(plan(fps=fps, measured_s=measured_s), median_ms, seed=seed),
        ladder=ladder,
        bare_engine={"fps": 118.0, "cpu_ms_per_frame": 16.5, "threads": 2},
        machine=MACHINE,
        command=["python", "benchmarks/run.py"],
        server=ServerFacts(True, exit_status, {"engine": "onnxruntime-cpu", "models": "/home/someone/models"}),
    )
