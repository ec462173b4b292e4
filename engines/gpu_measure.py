"""What is measured of an engine on a GPU: times by events and by wall clock, parity with the CPU, memory over time."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict

import numpy as np

from engines.cuda import Cuda, DeviceMemoryError
from engines.gpu_pipeline import GpuPipeline
from engines.plan import Precision
from engines.runner import EngineFailedError, Runner
from humanseg.vision.arrays import AlphaBatch, Batch, Size

#: Mean absolute difference of alpha to the CPU in float32.
TOLERANCES = {Precision.FP32: 0.002, Precision.FP16: 0.01}
WARM_RUNS, RUNS = 20, 300
CALLERS = 4
#: Memory is taken by halves down to this piece.
SMALLEST_PIECE_BYTES = 1 << 20
Figures = dict[str, object]


def percentiles(values_ms: Sequence[float]) -> Figures:
    """p50 and p99, milliseconds."""
    p50, p99 = np.percentile(values_ms, (50, 99))
    return {"p50": round(float(p50), 4), "p99": round(float(p99), 4)}


def wall_times(run: Callable[[Batch], AlphaBatch], batch: Batch) -> Figures:
    """What one caller waits for `RUNS` batches, and how many frames a second several callers get at once."""
    for _ in range(WARM_RUNS):
        run(batch)
    waited = []
    for _ in range(RUNS):
        began = time.perf_counter()
        run(batch)
        waited.append((time.perf_counter() - began) * 1000)
    began = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as callers:
        for done in [callers.submit(run, batch) for _ in range(RUNS)]:
            done.result()
    frames_per_s = RUNS * len(batch) / (time.perf_counter() - began)
    return {"wall_ms": percentiles(waited), f"frames_per_s_{CALLERS}_callers": round(frames_per_s, 1)}


def event_times(pipeline: GpuPipeline, batch: Batch) -> Figures:
    """The same by the device's own events: computing alone, and with the copies."""
    for _ in range(WARM_RUNS):
        pipeline.run(batch)
    times = [asdict(pipeline.run_timed(batch)[1]) for _ in range(RUNS)]
    return {name: percentiles([one[name] for one in times]) for name in times[0]}


def latency(pipeline: GpuPipeline, frames: Batch, buckets: Sequence[int]) -> dict[str, Figures]:
    """All times of every bucket; ``frames`` are as many as the largest holds."""
    return {
        str(bucket): {**event_times(pipeline, frames[:bucket]), **wall_times(pipeline.run, frames[:bucket])}
        for bucket in buckets
    }


def parity(
    reference: Runner, runner: Runner, frames: Mapping[Size, Batch], buckets: Sequence[int], tolerance: float
) -> Figures:
    """Compare masks at every bucket of every canvas; known faults of TensorRT appear only at batch 8 and above.

    Args:
        reference: the same model on the CPU in float32.
        runner: what is judged.
        frames: pictures of each canvas, as many as the largest bucket holds.
        buckets: batch sizes.
        tolerance: largest mean absolute difference of alpha.

    Raises:
        EngineFailedError: a difference is above the tolerance: to the reference, between equal rows of a batch, or
            between a batch and the same in another order.
    """
    worst: Figures = {}
    for canvas, pictures in frames.items():
        expected = np.concatenate([reference.run(pictures[row : row + 1]) for row in range(len(pictures))])
        for bucket in buckets:
            alphas = runner.run(pictures[:bucket])
            order = np.random.default_rng(bucket).permutation(bucket)
            shuffled = runner.run(np.ascontiguousarray(pictures[:bucket][order]))
            equal = runner.run(np.repeat(pictures[:1], bucket, axis=0))
            differences = {
                "to_cpu": _worst_row(alphas, expected[:bucket]),
                "other_order": _worst_row(shuffled, alphas[order]),
                "equal_rows": _worst_row(equal, np.repeat(expected[:1], bucket, axis=0)),
            }
            for name, difference in differences.items():
                if difference > tolerance:
                    raise EngineFailedError(
                        f"{name}: mean difference of alpha {difference:.5f} at batch {bucket} of {canvas},"
                        f" allowed is {tolerance}"
                    )
                worst[name] = max(float(str(worst.get(name, 0.0))), round(difference, 6))
    return worst


def endure(run: Callable[[Batch], AlphaBatch], frames: Batch, buckets: Sequence[int], requests: int) -> None:
    """Run so many batches of changing size from several threads."""
    left = iter(range(requests))
    lock = threading.Lock()

    def caller() -> None:
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            run(frames[: buckets[number % len(buckets)]])

    with ThreadPoolExecutor(CALLERS) as callers:
        for done in [callers.submit(caller) for _ in range(CALLERS)]:
            done.result()


def take_all_memory(cuda: Cuda, resources: ExitStack) -> int:
    """Take what the device has left, in halves down to `SMALLEST_PIECE_BYTES`; the bytes taken."""
    piece, taken = max(cuda.memory().free_bytes, SMALLEST_PIECE_BYTES), 0
    while piece >= SMALLEST_PIECE_BYTES:
        try:
            address = cuda.allocate(piece)
        except DeviceMemoryError:
            piece //= 2
            continue
        resources.callback(cuda.free, address)
        taken += piece
    return taken


def _worst_row(one: AlphaBatch, other: AlphaBatch) -> float:
    """Largest mean absolute difference of a row: one bad row must not vanish in a mean over 32."""
    return float(np.abs(one - other).mean(axis=(1, 2)).max())
