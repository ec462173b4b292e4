"""The names of TensorRT that the builder uses, of either flavor and of versions 10 and 11, as one typed object.

Everything that differs between them is here. Imported without TensorRT: the package is loaded by `open_api`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from engines.plan import Flavor
from engines.runner import EngineUnavailableError

if TYPE_CHECKING:
    import tensorrt as trt
    import tensorrt_rtx as rtx

LOGGER = logging.getLogger("humanseg.engines.build")
_MODULES = {Flavor.TENSORRT: "tensorrt", Flavor.TENSORRT_RTX: "tensorrt_rtx"}
#: Without a driver, TensorRT-RTX writes this error beside a build that goes well.
_HARMLESS = "catchCudaError"
#: Messages of TensorRT that go into an error.
_KEPT = 4
HOW_TO_GET = {
    Flavor.TENSORRT: (
        "`pip install 'humanseg[tensorrt]'` with NVIDIA's own index, which alone has its libraries: docs/engines.md"
    ),
    Flavor.TENSORRT_RTX: "`pip install 'humanseg[rtx]'`",
}


class Messages:
    """What a flavor's logger was told."""

    def __init__(self) -> None:
        self._errors: list[str] = []

    def take(self, level: str, text: str) -> None:
        """Called for every message, on any thread; ``level`` is the name of its severity."""
        if level in ("INTERNAL_ERROR", "ERROR") and _HARMLESS not in text:
            self._errors.append(text.strip().splitlines()[0])
        elif level == "WARNING":
            LOGGER.warning("%s", text)

    def log_errors(self) -> None:
        """For a build that went well all the same; otherwise they are in the exception."""
        for error in self._errors:
            LOGGER.warning("%s", error)

    @property
    def reason(self) -> str:
        """The last errors on one line."""
        return " | ".join(self._errors[-_KEPT:]) or "TensorRT gave no reason"


@dataclass(frozen=True, slots=True)
class TensorRtApi:
    """Classes of one flavor."""

    flavor: Flavor
    version: str
    builder: "type[trt.Builder]"
    parser: "type[trt.OnnxParser]"
    builder_flag: "type[trt.BuilderFlag]"
    creation_flag: "type[trt.NetworkDefinitionCreationFlag]"
    logger: "Callable[[Messages], trt.ILogger]"
    monitor: "Callable[[Callable[[int], None], Callable[[], bool]], trt.IProgressMonitor]"
    """Made of what is called with a number of new steps, and with one done, which says whether to go on."""
    compute_capability: "type[rtx.ComputeCapability] | None"
    """RTX only, which builds for GPUs that are not there."""


def open_api(flavor: Flavor) -> TensorRtApi:
    """Import a flavor.

    Raises:
        EngineUnavailableError: it is not installed, or its libraries cannot be loaded.
    """
    name = _MODULES[flavor]
    try:
        module = import_module(name)
    except ImportError as error:
        raise EngineUnavailableError(f"package {name} cannot be imported ({error}); {HOW_TO_GET[flavor]}") from error
    return TensorRtApi(
        flavor=flavor,
        version=str(module.__version__),
        builder=module.Builder,
        parser=module.OnnxParser,
        builder_flag=module.BuilderFlag,
        creation_flag=module.NetworkDefinitionCreationFlag,
        logger=_logger_of(module),
        monitor=_monitor_of(module),
        compute_capability=module.ComputeCapability if flavor is Flavor.TENSORRT_RTX else None,
    )


def _logger_of(module: Any) -> "Callable[[Messages], trt.ILogger]":
    class Logger(module.ILogger):  # type: ignore[misc]  # which module it is shows at run time
        def __init__(self, messages: Messages) -> None:
            module.ILogger.__init__(self)
            self._messages = messages

        def log(self, severity: "trt.ILogger.Severity", msg: str) -> None:
            self._messages.take(severity.name, msg)

    return Logger


def _monitor_of(module: Any) -> "Callable[[Callable[[int], None], Callable[[], bool]], trt.IProgressMonitor]":
    class Monitor(module.IProgressMonitor):  # type: ignore[misc]  # which module it is shows at run time
        def __init__(self, begun: Callable[[int], None], step: Callable[[], bool]) -> None:
            module.IProgressMonitor.__init__(self)
            self._begun, self._step = begun, step

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._begun(num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self._step()

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor
