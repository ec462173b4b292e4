"""Names of engines and how to open a model with them.

An engine's module, and the packages behind it, are imported only when it is asked for by name. Nothing falls back: an
engine that cannot run here raises, and the caller says so.
"""

from importlib import import_module
from pathlib import Path

import numpy as np

from engines.runner import EngineUnavailableError, Runner

DEFAULT_ENGINE = "onnxruntime-cpu"

#: Name -> (module, class); the class takes (path, *, max_batch, concurrency).
ENGINES: dict[str, tuple[str, str]] = {
    DEFAULT_ENGINE: ("engines.onnxruntime_cpu", "OnnxRuntimeCpuRunner"),
}


def open_runner(engine: str, path: Path, *, max_batch: int, concurrency: int) -> Runner:
    """Open a model file with the engine of that name.

    Raises:
        EngineUnavailableError: unknown name, or a package that the engine needs is missing.
        ModelFileError: the file cannot be used.
    """
    if engine not in ENGINES:
        raise EngineUnavailableError(f"unknown engine {engine!r}, known are {', '.join(sorted(ENGINES))}")
    module_name, class_name = ENGINES[engine]
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise EngineUnavailableError(
            f"engine {engine} needs a package that is not installed: {error.name}; install `humanseg[server]`"
        ) from error
    runner: Runner = getattr(module, class_name)(path, max_batch=max_batch, concurrency=concurrency)
    return runner


def warm_up(runner: Runner) -> None:
    """Run an empty batch of every canvas, so that no session's first frame pays for memory and kernels.

    Raises:
        EngineFailedError: the engine cannot run the model, or what comes out is no alpha.
    """
    info = runner.info
    for canvas in info.model.canvases:
        runner.run(np.zeros((1, *canvas.shape, info.model.channels), np.uint8))
