"""Names of engines and how to open a model with them.

An engine's module, and the packages behind it, are imported only when it is asked for by name. Nothing falls back: an
engine that cannot run here raises, and the caller says so.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from engines.runner import EngineUnavailableError, Runner

DEFAULT_ENGINE = "onnxruntime-cpu"


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """Where an engine is."""

    module: str
    opener: str
    """What in the module is called with (path, *, max_batch, concurrency)."""
    extra: str
    """The extra of this project that installs what it needs."""
    caches: bool = False
    """Whether it keeps what is made of a model, or runs what `engines.build` made; then the opener takes ``cache``."""


ENGINES: dict[str, EngineEntry] = {
    DEFAULT_ENGINE: EngineEntry("engines.onnxruntime_cpu", "OnnxRuntimeCpuRunner", "server"),
    "openvino-f32": EngineEntry("engines.openvino_cpu", "open_f32", "openvino", caches=True),
    "openvino-bf16": EngineEntry("engines.openvino_cpu", "open_bf16", "openvino", caches=True),
    "onnxruntime-cuda": EngineEntry("engines.onnxruntime_cuda", "OnnxRuntimeCudaRunner", "cuda"),
    "tensorrt": EngineEntry("engines.tensorrt_gpu", "open_fp16", "tensorrt", caches=True),
    "tensorrt-fp32": EngineEntry("engines.tensorrt_gpu", "open_fp32", "tensorrt", caches=True),
}


def open_runner(engine: str, path: Path, *, max_batch: int, concurrency: int, cache: Path | None = None) -> Runner:
    """Open a model file with the engine of that name.

    Args:
        engine: a name in `ENGINES`.
        path: the model file.
        max_batch: largest batch that the runner takes.
        concurrency: how many threads are going to call it at once.
        cache: folder of what the engine makes of the model; None: nothing is kept, or where `engines.build` writes.

    Raises:
        EngineUnavailableError: unknown name, or a package, a device or a CPU feature that the engine needs is missing,
            or a cache is asked of an engine that has none.
        ModelFileError: the file cannot be used.
        PlanError: the engine needs a plan, and there is none that fits.
        EngineFailedError: a GPU refused it.
        EngineError: the cache cannot be used.
    """
    if engine not in ENGINES:
        raise EngineUnavailableError(f"unknown engine {engine!r}, known are {', '.join(sorted(ENGINES))}")
    entry = ENGINES[engine]
    if cache is not None and not entry.caches:
        caching = ", ".join(sorted(name for name, one in ENGINES.items() if one.caches))
        raise EngineUnavailableError(
            f"engine {engine} keeps nothing, and engine cache {cache} was asked for; leave it out, or take {caching}"
        )
    kept = {"cache": cache} if entry.caches else {}
    try:
        module = import_module(entry.module)
    except ImportError as error:
        raise EngineUnavailableError(
            f"engine {engine} needs a package that is not installed: {error.name}; install `humanseg[{entry.extra}]`"
        ) from error
    runner: Runner = getattr(module, entry.opener)(path, max_batch=max_batch, concurrency=concurrency, **kept)
    return runner


def warm_up(runner: Runner) -> None:
    """Run an empty batch of every canvas, so that no session's first frame pays for memory and kernels.

    Raises:
        EngineFailedError: the engine cannot run the model, or what comes out is no alpha.
    """
    info = runner.info
    for canvas in info.model.canvases:
        runner.run(np.zeros((1, *canvas.shape, info.model.channels), np.uint8))
