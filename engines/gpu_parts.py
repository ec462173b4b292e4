"""The parts of `engines.gpu_check`; each runs in a process of its own, and takes a GPU for granted.

A part gives its figures, raises `EngineUnavailableError` where something is missing, and any other error where what it
looks at is not in order.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from engines.cuda import Cuda, CudaPackage, DeviceMemoryError, open_cuda
from engines.gpu_measure import TOLERANCES, Figures, endure, latency, parity, take_all_memory, wall_times
from engines.gpu_pipeline import GpuPipeline
from engines.gpu_requirements import require_gpu
from engines.gpu_runner import GpuRunner
from engines.gpu_slot import Launch, SlotShape
from engines.plan import Precision, buckets_for
from engines.registry import DEFAULT_ENGINE, open_runner
from engines.runner import EngineFailedError, EngineUnavailableError, Runner
from engines.tensorrt_gpu import FP16, FP32, RTX_FP16, RTX_FP32, Variant, open_tensorrt
from humanseg.video import read_rgb
from humanseg.vision.arrays import AlphaBatch, Batch, Size
from humanseg.vision.letterbox import letterbox

REPOSITORY = Path(__file__).resolve().parent.parent
CLIP = REPOSITORY / "benchmarks" / "clips" / "demo_signing_640x360.mp4"
#: Every so many frames one is taken.
CLIP_STEP = 5
REQUESTS = 10_000
#: Drivers and libraries keep some memory of their own; a leak of one frame a request would be a hundred times this.
LEAK_BYTES = 32 << 20
#: Exit status of `engines.build` where the machine lacks something.
BUILD_NEEDS_MORE = 2
VARIANTS = (FP16, FP32, RTX_FP16, RTX_FP32)
KERNEL_CANVAS = Size(512, 288)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be looked at."""

    model: Path
    """The ONNX file."""
    max_batch: int
    plans: Path
    """Folder of the built engines."""

    @property
    def buckets(self) -> tuple[int, ...]:
        """Batch sizes that are looked at."""
        return buckets_for(self.max_batch)


def cuda_layer(package: CudaPackage, plan: Plan) -> Figures:
    """Copies, graph, threads, memory, with a kernel of ours in the place of a network."""
    outcome = require_gpu("gpu_check", {"cuda.bindings": "`pip install 'humanseg[gpu]'`"})
    from engines.gpu_kernel import compile_kernel, expected, load_kernel

    device = outcome.usable[0]
    shapes = [SlotShape(bucket, KERNEL_CANVAS, 3) for bucket in plan.buckets]
    load = partial(load_kernel, compile_kernel(device.compute_capability))
    frames = np.random.default_rng(0).integers(0, 256, shapes[-1].input, dtype=np.uint8)

    def run(pipeline: GpuPipeline, batch: Batch) -> None:
        if not np.array_equal(pipeline.run(batch), expected(batch)):
            raise EngineFailedError(f"the kernel's answer to a batch of {len(batch)} is wrong")

    def opened(launch: Launch) -> GpuPipeline:
        return GpuPipeline(partial(open_cuda, device.index, package), shapes, load, launch=launch)

    figures: Figures = {"device": device.described}
    for launch in Launch:
        pipeline = opened(launch)
        if pipeline.launch is not launch and pipeline.cuda.has_graphs:
            raise EngineFailedError("a kernel of ours could not be captured into a CUDA graph; the log says why")
        for count in range(1, plan.max_batch + 1):
            run(pipeline, frames[:count])
        figures[pipeline.launch.value] = latency(pipeline, frames, plan.buckets)
        figures["package"] = pipeline.cuda.package
        if launch is Launch.GRAPH:
            figures["memory"] = _memory_over_time(pipeline.cuda, pipeline.run, frames, plan.buckets)
            figures["out_of_memory"] = _out_of_memory(pipeline, partial(opened, launch), partial(run, pipeline, frames))
        pipeline.close()
        pipeline.close()
    return figures


def build(variant: Variant, plan: Plan) -> Figures:
    """The engine of the model, by the command that everybody uses."""
    command = [
        sys.executable, "-m", "engines.build", "--model", plan.model.stem, "--models", str(plan.model.parent),
        "--flavor", variant.flavor, "--precision", variant.precision, "--max-batch", str(plan.max_batch),
        "--cache", str(plan.plans),
    ]  # fmt: skip
    began = time.monotonic()
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "".join((done.stderr or done.stdout).strip().splitlines()[-1:])
        error = EngineUnavailableError if done.returncode == BUILD_NEEDS_MORE else EngineFailedError
        raise error(f"engines.build ended with status {done.returncode}: {last}")
    return {"said": done.stdout.strip().splitlines(), "took_s": round(time.monotonic() - began, 1)}


def tensorrt(variant: Variant, plan: Plan) -> Figures:
    """A built engine: parity, times with and without graphs, memory."""
    figures: Figures = {}
    for launch in Launch:
        with ExitStack() as resources:
            runner = open_tensorrt(
                variant, plan.model, max_batch=plan.max_batch, concurrency=1, plans=plan.plans, launch=launch
            )
            resources.callback(runner.close)
            frames = _pictures(runner, plan.max_batch)
            first = next(iter(frames.values()))
            if launch is Launch.GRAPH:
                figures["device"] = runner.info.device
                reference = open_runner(DEFAULT_ENGINE, plan.model, max_batch=1, concurrency=1)
                figures["parity"] = parity(reference, runner, frames, plan.buckets, TOLERANCES[variant.precision])
            if not isinstance(runner, GpuRunner):
                raise EngineFailedError("several GPUs; choose one by CUDA_VISIBLE_DEVICES=0 to measure it")
            figures[runner.pipeline.launch.value] = latency(runner.pipeline, first, plan.buckets)
            if launch is Launch.GRAPH:
                cuda = runner.pipeline.cuda
                figures["memory"] = _memory_over_time(cuda, runner.run, first, plan.buckets)
    return figures


def onnxruntime_cuda(plan: Plan) -> Figures:
    """ONNX Runtime's CUDA provider: parity and wall times."""
    runner = open_runner("onnxruntime-cuda", plan.model, max_batch=plan.max_batch, concurrency=1)
    frames = _pictures(runner, plan.max_batch)
    first = next(iter(frames.values()))
    reference = open_runner(DEFAULT_ENGINE, plan.model, max_batch=1, concurrency=1)
    figures: Figures = {
        "device": runner.info.device,
        "parity": parity(reference, runner, frames, plan.buckets, TOLERANCES[Precision.FP16]),
        "times": {str(bucket): wall_times(runner.run, first[:bucket]) for bucket in plan.buckets},
    }
    runner.close()
    return figures


PARTS: dict[str, Callable[[Plan], Figures]] = {
    "cuda": partial(cuda_layer, CudaPackage.CUDA_BINDINGS),
    "pycuda": partial(cuda_layer, CudaPackage.PYCUDA),
    **{f"build-{variant.name}": partial(build, variant) for variant in VARIANTS},
    **{variant.name: partial(tensorrt, variant) for variant in VARIANTS},
    "onnxruntime-cuda": onnxruntime_cuda,
}


def _pictures(runner: Runner, count: int) -> dict[Size, Batch]:
    """Frames of the demo clip for each canvas."""
    model = runner.info.model
    taken = list(islice(read_rgb(CLIP), 0, count * CLIP_STEP, CLIP_STEP))
    if len(taken) < count:
        raise EngineFailedError(f"{CLIP} has only {len(taken)} of {count} pictures; take a smaller --max-batch")
    return {canvas: np.stack([letterbox(frame, canvas)[0] for frame in taken]) for canvas in model.canvases}


def _memory_over_time(cuda: Cuda, run: Callable[[Batch], AlphaBatch], frames: Batch, buckets: Sequence[int]) -> Figures:
    cuda.attach()
    try:
        endure(run, frames, buckets, REQUESTS // 100)  # what is made once is made now
        before, resident_kib = cuda.memory(), _resident_kib()
        endure(run, frames, buckets, REQUESTS)
        after = cuda.memory()
    finally:
        cuda.detach()
    lost = before.free_bytes - after.free_bytes
    if lost > LEAK_BYTES:
        raise EngineFailedError(f"{lost >> 20} MiB of GPU memory are gone after {REQUESTS} requests; nothing should be")
    return {
        "requests": REQUESTS,
        "gpu_used_mib": (after.total_bytes - after.free_bytes) >> 20,
        "gpu_growth_kib": lost >> 10,
        "host_peak_growth_kib": _resident_kib() - resident_kib,
    }


def _out_of_memory(pipeline: GpuPipeline, reopen: Callable[[], GpuPipeline], run: Callable[[], None]) -> Figures:
    """A start without room fails cleanly, while what runs goes on; with room again it succeeds."""
    cuda = pipeline.cuda
    cuda.attach()
    try:
        with ExitStack() as resources:
            taken = take_all_memory(cuda, resources)
            run()
            try:
                reopen().close()
            except DeviceMemoryError as error:
                said = str(error)
            else:
                raise EngineFailedError(f"a second pipeline found room although {taken >> 20} MiB were taken")
            run()
        reopen().close()
        run()
    finally:
        cuda.detach()
    return {"taken_mib": taken >> 20, "said": said}


def _resident_kib() -> int:
    """Largest so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
