"""TensorRT on NVIDIA GPUs: engines that `python -m engines.build` has built, one runner a device.

Nothing of CUDA or TensorRT is imported before the probe has found a device. The plan is looked for by everything it
depends on (`engines.plan.PlanKey`), so that one of another GPU, driver, version or model is refused by name.

Never executed on a GPU by us so far: full TensorRT cannot be had from the public package index (docs/gpu.md).
"""

import hashlib
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from engines.cuda import open_cuda
from engines.gpu_pipeline import GpuPipeline
from engines.gpu_requirements import require_gpu
from engines.gpu_runner import GpuRunner, RunnerPool
from engines.gpu_slot import Launch, SlotShape
from engines.metadata import ModelMetadata
from engines.onnxruntime_model import describe
from engines.plan import Flavor, PlanKey, Precision, buckets_for
from engines.plan_cache import DEFAULT_FOLDER, PlanCache
from engines.probe import Device
from engines.runner import EngineUnavailableError, ModelFileError, Runner, RunnerInfo

PACKAGES = {
    "tensorrt": "`pip install 'humanseg[tensorrt]'`; NVIDIA's own index has its libraries: docs/gpu.md",
    "cuda.bindings": "`pip install 'humanseg[gpu]'`",
}
NAMES = {Precision.FP16: "tensorrt", Precision.FP32: "tensorrt-fp32"}


def open_fp16(path: Path, *, max_batch: int, concurrency: int, cache: Path | None = None) -> Runner:
    """Open a model built in half precision; see `open_tensorrt`."""
    return open_tensorrt(
        Precision.FP16, path, max_batch=max_batch, concurrency=concurrency, plans=cache or DEFAULT_FOLDER
    )


def open_fp32(path: Path, *, max_batch: int, concurrency: int, cache: Path | None = None) -> Runner:
    """Open a model built in single precision; see `open_tensorrt`."""
    return open_tensorrt(
        Precision.FP32, path, max_batch=max_batch, concurrency=concurrency, plans=cache or DEFAULT_FOLDER
    )


def open_tensorrt(
    precision: Precision, path: Path, *, max_batch: int, concurrency: int, plans: Path, launch: Launch = Launch.GRAPH
) -> Runner:
    """Open the built engine of a model on every GPU that this process sees (CUDA_VISIBLE_DEVICES).

    Args:
        precision: in which it was built.
        path: the ONNX file it was built from.
        max_batch: largest batch of `Runner.run`; the engine must have been built for just this one.
        concurrency: how many threads are going to call `Runner.run` at once.
        plans: folder of the built engines.
        launch: as captured graphs, or plain to measure what those give.

    Raises:
        EngineUnavailableError: no usable GPU, or a package is missing.
        ModelFileError: the ONNX file cannot be used, or ``max_batch`` is above the largest bucket.
        PlanError: nothing was built that fits, or it was changed since.
        DeviceMemoryError: no room on a device.
        EngineFailedError: TensorRT refused the engine.
    """
    engine = NAMES[precision]
    outcome = require_gpu(engine, PACKAGES)
    metadata = describe(path)
    try:
        buckets = buckets_for(max_batch)
    except ValueError as error:
        raise ModelFileError(f"engine {engine}: {error}; set --max-batch") from None
    version = _load_tensorrt(engine)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    runners: list[GpuRunner] = []
    with ExitStack() as on_failure:
        for device in outcome.usable:
            key = PlanKey(
                model=metadata.name,
                onnx_sha256=sha256,
                flavor=Flavor.TENSORRT,
                version=version,
                compute_capability=device.capability,
                driver=str(outcome.cuda_version),
                precision=precision,
                buckets=buckets,
                canvases=metadata.canvases,
            )
            plan = PlanCache(plans).load(key).plan
            pipeline = open_pipeline(plan, device, metadata, buckets, launch)
            how = pipeline.launch.value
            on_failure.callback(pipeline.close)
            info = RunnerInfo(
                engine=engine,
                model=metadata,
                path=path,
                max_batch=max_batch,
                preferred_batch=max_batch,
                concurrency=concurrency,
                device=f"{device.described}, {how}",
            )
            runners.append(GpuRunner(info, pipeline))
        on_failure.pop_all()
    if len(runners) == 1:
        return runners[0]
    return RunnerPool(replace(runners[0].info, device="; ".join(runner.info.device for runner in runners)), runners)


def open_pipeline(
    plan: bytes, device: Device, metadata: ModelMetadata, buckets: tuple[int, ...], launch: Launch
) -> GpuPipeline:
    """Bring a plan onto a device and warm up every bucket of every canvas.

    Raises:
        DeviceMemoryError: no room on the device; nothing is left behind on it.
        EngineFailedError: TensorRT refused the engine.
    """
    from engines.tensorrt_program import load_programs

    shapes = tuple(SlotShape(bucket, canvas, metadata.channels) for canvas in metadata.canvases for bucket in buckets)
    return GpuPipeline(partial(open_cuda, device.index), shapes, partial(load_programs, plan, shapes), launch=launch)


def _load_tensorrt(engine: str) -> str:
    """Import it, now that the probe has found a driver that works; its version."""
    try:
        from engines.tensorrt_program import tensorrt_version
    except (ImportError, OSError) as error:
        raise EngineUnavailableError(
            f"engine {engine} cannot run here: TensorRT is installed, but cannot be loaded ({error});"
            f" {PACKAGES['tensorrt']}"
        ) from error
    return tensorrt_version()
