"""Which models are served: found in a folder, opened with the engine asked for, and warm before the server is ready."""

import time
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from engines.plan_cache import DEFAULT_FOLDER
from engines.registry import open_runner, warm_up
from engines.remote import RemoteServers
from engines.runner import ModelFileError, RemoteRunner, Runner, RunnerInfo
from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation
from service.pipeline import geometry


class ModelCatalog:
    """The open runners by model name, the default first."""

    def __init__(
        self, runners: Mapping[str, Runner], default: str, first_run_ns: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """``first_run_ns``: by model, how long a picture took once it was warm, as far as it was measured."""
        if default not in runners:
            served = ", ".join(runners)
            raise ModelFileError(
                f"default model {default!r} is not among the models found ({served}); set --default-model"
            )
        self._default = default
        self.first_run_ns = dict(first_run_ns)
        self._runners = {default: runners[default], **runners}

    @property
    def default(self) -> str:
        """The model of a config that names none."""
        return self._default

    @property
    def names(self) -> Sequence[str]:
        """All models, the default first."""
        return tuple(self._runners)

    @property
    def infos(self) -> Sequence[RunnerInfo]:
        """All open runners, the default first."""
        return tuple(runner.info for runner in self._runners.values())

    @property
    def preferred_batches(self) -> Mapping[str, int]:
        """Model name -> frames in a batch beyond which waiting for more is not worth it."""
        return {name: runner.info.preferred_batch for name, runner in self._runners.items()}

    def lacking(self) -> str | None:
        """Why a model cannot be run now, where servers elsewhere run it; None: all can."""
        reasons = [runner.lacking() for runner in self._runners.values() if isinstance(runner, RemoteRunner)]
        return "; ".join(reason for reason in reasons if reason) or None

    def runner(self, model: str) -> Runner:
        """The open runner of a model that is served."""
        return self._runners[model]

    def geometry(self, model: str, size: Size, rotation: Rotation) -> Hashable:
        """Equal for two kinds of frames whose network inputs lie on each other pixel by pixel."""
        placement = geometry(self._runners[model].info.model, size, rotation)
        return placement.canvas, placement.inner

    def close(self) -> None:
        """Free every engine."""
        for runner in self._runners.values():
            runner.close()


def open_models(
    folder: Path,
    *,
    engine: str,
    default: str,
    max_batch: int,
    concurrency: int,
    cache: Path | None = None,
    plans: Path = DEFAULT_FOLDER,
    servers: RemoteServers | None = None,
) -> ModelCatalog:
    """Open and warm up every ``*.onnx`` of a folder; see `engines.registry.open_runner`.

    Raises:
        EngineError: the cache cannot be used.
        EngineUnavailableError: the engine cannot run here.
        PlanError: it needs built engines, and one that fits is not there.
        ModelFileError: no model there, one of them cannot be used, or two have the same name.
    """
    paths = sorted(folder.glob("*.onnx"))
    if not paths:
        raise ModelFileError(f"no *.onnx in {folder}; train one with `python -m train.train`, or set --models")
    runners: dict[str, Runner] = {}
    first_run_ns: dict[str, int] = {}
    for path in paths:
        runner = open_runner(
            engine, path, max_batch=max_batch, concurrency=concurrency, cache=cache, plans=plans, servers=servers
        )
        name = runner.info.model.name
        if name in runners:
            raise ModelFileError(f"{path} and {runners[name].info.path} both call themselves {name!r}; remove one")
        warm_up(runner)
        runners[name], first_run_ns[name] = runner, _time_run(runner)
    return ModelCatalog(runners, default, first_run_ns)


def _time_run(runner: Runner) -> int:
    """Nanoseconds of one run of a warm runner, the landscape canvas."""
    info = runner.info
    batch = np.zeros((1, *info.model.landscape.shape, info.model.channels), np.uint8)
    began_ns = time.monotonic_ns()
    runner.run(batch)
    return time.monotonic_ns() - began_ns
