"""TensorRT on NVIDIA GPUs: engines that `python -m engines.build` has built, one runner a device.

Nothing of CUDA or TensorRT is imported before the probe has found a device. The plan is looked for by everything it
depends on (`engines.plan.PlanKey`), so that one of another GPU, driver, version or model is refused by name.

Never executed on a GPU by us so far (docs/gpu.md).
"""

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from engines.cuda import open_cuda
from engines.gpu_pipeline import GpuPipeline
from engines.gpu_requirements import require_gpu
from engines.gpu_runner import GpuRunner, RunnerPool
from engines.gpu_slot import Launch, SlotShape
from engines.metadata import ModelMetadata
from engines.onnxruntime_model import describe
from engines.plan import ANY_DRIVER, Flavor, PlanKey, Precision, buckets_for
from engines.plan_cache import PlanCache
from engines.probe import Device
from engines.runner import EngineUnavailableError, ModelFileError, Runner, RunnerInfo
from engines.tensorrt_program import MODULES, RuntimeApi, load_programs, open_runtime

#: How to get the package of a flavor.
HOW_TO_GET = {
    Flavor.TENSORRT: "`pip install 'humanseg[tensorrt]'`; NVIDIA's own index has its libraries: docs/gpu.md",
    Flavor.TENSORRT_RTX: "`pip install 'humanseg[rtx]'`",
}
BINDINGS = {"cuda.bindings": "`pip install 'humanseg[gpu]'`"}


@dataclass(frozen=True, slots=True)
class Variant:
    """An engine of the registry: which library, computing in what."""

    name: str
    flavor: Flavor
    precision: Precision


FP16 = Variant("tensorrt", Flavor.TENSORRT, Precision.FP16)
FP32 = Variant("tensorrt-fp32", Flavor.TENSORRT, Precision.FP32)
RTX_FP16 = Variant("tensorrt-rtx", Flavor.TENSORRT_RTX, Precision.FP16)
RTX_FP32 = Variant("tensorrt-rtx-fp32", Flavor.TENSORRT_RTX, Precision.FP32)


def open_tensorrt(
    variant: Variant, path: Path, *, max_batch: int, concurrency: int, plans: Path, launch: Launch = Launch.GRAPH
) -> Runner:
    """Open the built engine of a model on every GPU that this process sees (CUDA_VISIBLE_DEVICES).

    Args:
        variant: of TensorRT.
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
    outcome = require_gpu(variant.name, {MODULES[variant.flavor]: HOW_TO_GET[variant.flavor], **BINDINGS})
    metadata = describe(path)
    try:
        buckets = buckets_for(max_batch)
    except ValueError as error:
        raise ModelFileError(f"engine {variant.name}: {error}; set --max-batch") from None
    api = _load_tensorrt(variant)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    runners: list[GpuRunner] = []
    with ExitStack() as on_failure:
        for device in outcome.usable:
            key = PlanKey(
                model=metadata.name,
                onnx_sha256=sha256,
                flavor=variant.flavor,
                version=api.version,
                compute_capability=device.capability,
                driver=ANY_DRIVER if variant.flavor is Flavor.TENSORRT_RTX else str(outcome.cuda_version),
                precision=variant.precision,
                buckets=buckets,
                canvases=metadata.canvases,
            )
            plan = PlanCache(plans).load(key).plan
            pipeline = open_pipeline(api, plan, device, metadata, buckets, launch)
            on_failure.callback(pipeline.close)
            info = RunnerInfo(
                engine=variant.name,
                model=metadata,
                path=path,
                max_batch=max_batch,
                preferred_batch=max_batch,
                concurrency=concurrency,
                device=f"{device.described}, {pipeline.launch.value}",
            )
            runners.append(GpuRunner(info, pipeline))
        on_failure.pop_all()
    if len(runners) == 1:
        return runners[0]
    return RunnerPool(replace(runners[0].info, device="; ".join(runner.info.device for runner in runners)), runners)


open_fp16 = partial(open_tensorrt, FP16)
open_fp32 = partial(open_tensorrt, FP32)
open_rtx_fp16 = partial(open_tensorrt, RTX_FP16)
open_rtx_fp32 = partial(open_tensorrt, RTX_FP32)


def open_pipeline(
    api: RuntimeApi, plan: bytes, device: Device, metadata: ModelMetadata, buckets: tuple[int, ...], launch: Launch
) -> GpuPipeline:
    """Bring a plan onto a device and warm up every bucket of every canvas.

    Raises:
        DeviceMemoryError: no room on the device; nothing is left behind on it.
        EngineFailedError: TensorRT refused the engine.
    """
    shapes = tuple(SlotShape(bucket, canvas, metadata.channels) for canvas in metadata.canvases for bucket in buckets)
    return GpuPipeline(
        partial(open_cuda, device.index), shapes, partial(load_programs, api, plan, shapes), launch=launch
    )


def _load_tensorrt(variant: Variant) -> RuntimeApi:
    """Import it, now that the probe has found a driver that works."""
    try:
        return open_runtime(variant.flavor)
    except (ImportError, OSError) as error:
        raise EngineUnavailableError(
            f"engine {variant.name} cannot run here: {variant.flavor} is installed, but cannot be loaded ({error});"
            f" {HOW_TO_GET[variant.flavor]}"
        ) from error
