"""The models as KServe's protocol describes them: names, tensors, configuration, statistics.

Each model of the service is there twice, for its two kinds of input: NAME takes pixels, NAME-jpeg takes JPEG files. A
tool that makes up inputs from the metadata (perf_analyzer) then finds one tensor, and no choice that it cannot know of.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import model_config_pb2, service_pb2

from engines.runner import RunnerInfo
from service.call_errors import CallError, Reason
from service.models import ModelCatalog
from service.stages import Stage, StageClock

#: Tools compare versions as numbers; the model's own stands in the configuration's parameters.
VERSION = "1"
JPEG_SUFFIX = "-jpeg"
PLATFORM = "humanseg"
IMAGE, JPEG, MASK = "image", "jpeg", "mask"

_INTERVALS: dict[str, tuple[Stage, ...]] = {
    "queue": ("wait", "queue"),
    "compute_input": ("decode", "preprocess"),
    "compute_infer": ("inference",),
    "compute_output": ("fusion", "postprocess", "encode"),
}


class NameTakenError(ValueError):
    """A model is called as another one's variant for JPEG would be."""


@dataclass(slots=True)
class Statistics:
    """What became of the requests for a model."""

    count: int = 0
    failed: int = 0
    failed_ns: int = 0
    success_ns: int = 0
    last_ms: int = 0
    interval_ns: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_INTERVALS, 0))

    def answered(self, clock: StageClock) -> None:
        """A mask was made."""
        self.count += 1
        self.success_ns += clock.wall_ns.get("total", 0)
        self.last_ms = time.time_ns() // 1_000_000
        for name, stages in _INTERVALS.items():
            self.interval_ns[name] += sum(clock.wall_ns.get(stage, 0) for stage in stages)

    def refused(self, took_ns: int) -> None:
        """There was none."""
        self.failed += 1
        self.failed_ns += took_ns


@dataclass(frozen=True, slots=True)
class KserveModel:
    """A model under its name in this protocol."""

    name: str
    info: RunnerInfo
    takes_jpeg: bool
    statistics: Statistics = field(default_factory=Statistics)

    @property
    def model(self) -> str:
        """Its name in the service."""
        return self.info.model.name

    @property
    def input_name(self) -> str:
        """Of its one input."""
        return JPEG if self.takes_jpeg else IMAGE


class KserveModels:
    """All models by their names in this protocol."""

    def __init__(self, catalog: ModelCatalog, idle_timeout_s: float) -> None:
        """Raises NameTakenError where two would have the same name."""
        self._idle_us = round(idle_timeout_s * 1e6)
        self._models: dict[str, KserveModel] = {}
        for info in catalog.infos:
            for model in (
                KserveModel(info.model.name, info, takes_jpeg=False),
                KserveModel(info.model.name + JPEG_SUFFIX, info, takes_jpeg=True),
            ):
                if model.name in self._models:
                    raise NameTakenError(
                        f"--kserve serves models twice, as NAME and NAME{JPEG_SUFFIX}, and {model.name!r} would be two;"
                        " rename one"
                    )
                self._models[model.name] = model

    def has(self, name: str, version: str) -> bool:
        """Whether there is such a model."""
        return name in self._models and version in ("", VERSION)

    def find(self, name: str, version: str) -> KserveModel:
        """The model meant.

        Raises:
            CallError: MODEL_UNKNOWN.
        """
        if not self.has(name, version):
            served = ", ".join(self._models)
            text = f"model {name[:80]!r} version {version[:80] or 'any'!r} is not served here, served are {served},"
            raise CallError(
                Reason.MODEL_UNKNOWN, f"{text} each in version {VERSION}", metadata={"served_models": served}
            )
        return self._models[name]

    def index(self) -> Any:
        """RepositoryIndexResponse."""
        response = service_pb2.RepositoryIndexResponse()
        for name in self._models:
            response.models.add(name=name, version=VERSION, state="READY")
        return response

    def metadata(self, model: KserveModel) -> Any:
        """ModelMetadataResponse."""
        response = service_pb2.ModelMetadataResponse(name=model.name, versions=[VERSION], platform=PLATFORM)
        if model.takes_jpeg:
            response.inputs.add(name=JPEG, datatype="BYTES", shape=[1])
        else:
            response.inputs.add(name=IMAGE, datatype="UINT8", shape=[-1, -1, 3])
        response.outputs.add(name=MASK, datatype="UINT8", shape=[-1, -1])
        return response

    def config(self, model: KserveModel) -> Any:
        """ModelConfigResponse."""
        config = model_config_pb2.ModelConfig(name=model.name, backend=PLATFORM, max_batch_size=0)
        if model.takes_jpeg:
            config.input.add(name=JPEG, data_type=model_config_pb2.TYPE_STRING, dims=[1])
        else:
            config.input.add(name=IMAGE, data_type=model_config_pb2.TYPE_UINT8, dims=[-1, -1, 3])
        config.output.add(name=MASK, data_type=model_config_pb2.TYPE_UINT8, dims=[-1, -1])
        config.sequence_batching.max_sequence_idle_microseconds = self._idle_us
        config.sequence_batching.direct.SetInParent()
        for key, value in (
            ("humanseg.model", model.model),
            ("humanseg.version", model.info.model.version),
            ("humanseg.engine", model.info.engine),
        ):
            config.parameters[key].string_value = value
        return service_pb2.ModelConfigResponse(config=config)

    def statistics(self, name: str, version: str) -> Any:
        """ModelStatisticsResponse, of all models where the name is empty.

        Raises:
            CallError: MODEL_UNKNOWN.
        """
        models = [self.find(name, version)] if name else list(self._models.values())
        response = service_pb2.ModelStatisticsResponse()
        for model in models:
            seen = model.statistics
            stats = response.model_stats.add(
                name=model.name,
                version=VERSION,
                last_inference=seen.last_ms,
                inference_count=seen.count,
                execution_count=seen.count,
            )
            durations = stats.inference_stats
            durations.success.count, durations.success.ns = seen.count, seen.success_ns
            durations.fail.count, durations.fail.ns = seen.failed, seen.failed_ns
            for interval, spent_ns in seen.interval_ns.items():
                duration = getattr(durations, interval)
                duration.count, duration.ns = seen.count, spent_ns
        return response
