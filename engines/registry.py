"""Names of engines and how to open a model with them.

An engine's module, and the packages behind it, are imported only when it is asked for by name. Nothing falls back: an
engine that cannot run here raises, and the caller says so.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from engines.plan_cache import DEFAULT_FOLDER
from engines.remote import RemoteServers
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
    """Whether it can keep what it makes of a model from start to start; the opener then takes ``cache``, a folder."""
    takes_plans: bool = False
    """Whether it runs what `engines.build` has built: then the opener also takes ``plans``, their folder."""
    is_remote: bool = False
    """Whether servers run the model for it: then the opener also takes ``servers``."""


ENGINES: dict[str, EngineEntry] = {
    DEFAULT_ENGINE: EngineEntry("engines.onnxruntime_cpu", "OnnxRuntimeCpuRunner", "server"),
    "openvino-f32": EngineEntry("engines.openvino_cpu", "open_f32", "openvino", caches=True),
    "openvino-bf16": EngineEntry("engines.openvino_cpu", "open_bf16", "openvino", caches=True),
    "onnxruntime-cuda": EngineEntry("engines.onnxruntime_cuda", "OnnxRuntimeCudaRunner", "cuda"),
    "tensorrt": EngineEntry("engines.tensorrt_gpu", "open_fp16", "tensorrt", takes_plans=True),
    "tensorrt-fp32": EngineEntry("engines.tensorrt_gpu", "open_fp32", "tensorrt", takes_plans=True),
    "tensorrt-rtx": EngineEntry("engines.tensorrt_gpu", "open_rtx_fp16", "rtx", takes_plans=True),
    "tensorrt-rtx-fp32": EngineEntry("engines.tensorrt_gpu", "open_rtx_fp32", "rtx", takes_plans=True),
    "triton": EngineEntry("engines.triton_remote", "TritonRunner", "triton", is_remote=True),
}


def open_runner(
    engine: str,
    path: Path,
    *,
    max_batch: int,
    concurrency: int,
    cache: Path | None = None,
    plans: Path = DEFAULT_FOLDER,
    servers: RemoteServers | None = None,
) -> Runner:
    """Open a model file with the engine of that name.

    Args:
        engine: a name in `ENGINES`.
        path: the model file.
        max_batch: largest batch that the runner takes.
        concurrency: how many threads are going to call it at once.
        cache: folder for what the engine makes of the model; None: nothing is kept.
        plans: where built engines lie, for an engine that needs one.
        servers: who runs the models, for an engine that leaves it to others.

    Raises:
        EngineUnavailableError: unknown name, or a package, a device, a CPU feature or a server that the engine needs is
            missing, or a cache or servers are given to an engine that has no use for them.
        ModelFileError: the file cannot be used.
        CacheError: the cache cannot be used.
        PlanError: the engine needs a plan, and there is none that fits.
        EngineFailedError: a GPU refused it.
    """
    if engine not in ENGINES:
        raise EngineUnavailableError(f"unknown engine {engine!r}, known are {', '.join(sorted(ENGINES))}")
    entry = ENGINES[engine]
    if cache is not None and not entry.caches:
        caching = ", ".join(sorted(name for name, one in ENGINES.items() if one.caches))
        raise EngineUnavailableError(
            f"engine {engine} keeps nothing, and engine cache {cache} was asked for; leave it out, or take {caching}"
        )
    if entry.is_remote != (servers is not None):
        remote = ", ".join(sorted(name for name, one in ENGINES.items() if one.is_remote))
        raise EngineUnavailableError(
            f"engine {engine} needs servers that run its models; name them by --triton HOST:PORT[,HOST:PORT]"
            if entry.is_remote
            else f"engine {engine} runs models itself, and servers were named; leave them out, or take {remote}"
        )
    kept: dict[str, object] = {"cache": cache} if entry.caches else {}
    try:
        module = import_module(entry.module)
    except ImportError as error:
        raise EngineUnavailableError(
            f"engine {engine} needs a package that is not installed: {error.name}; install `humanseg[{entry.extra}]`"
        ) from error
    if entry.takes_plans:
        kept["plans"] = plans
    if entry.is_remote:
        kept["servers"] = servers
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
