"""A plan on a device: deserialized once, with an execution context for every pair of buffers.

Every call of TensorRT that answers a bool or None is checked, since none of them raises. The contexts share a block of
scratch memory: they run one after the other on the device's computing stream, so none needs its own.

Runs on the thread that owns the device, and only after `engines.probe` has found one: a `Runtime` without a driver can
end the process. The same code serves TensorRT 10 and 11; it uses no name that either lacks (checked against the stubs
of both).
"""

import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

import tensorrt as trt

from engines.cuda import Cuda, DeviceMemoryError
from engines.gpu_slot import ProgramFactory, SlotShape
from engines.runner import EngineFailedError

LOGGER = logging.getLogger("humanseg.engines.tensorrt")
#: Messages of TensorRT that go into an error.
KEPT_MESSAGES = 4
_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.INFO,
    "VERBOSE": logging.DEBUG,
}


def tensorrt_version() -> str:
    """Of the library, for example ``11.4.0.106``; not in NVIDIA's own list of names, so the type stubs lack it."""
    return str(vars(trt)["__version__"])


class TensorRtLog(trt.ILogger):
    """Hands TensorRT's messages to logging, and keeps the errors of each thread for the exception that is to come."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._kept = threading.local()

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Called by TensorRT, on any thread."""
        level = _LEVELS.get(severity.name, logging.ERROR)
        LOGGER.log(level, "%s", msg)
        if level >= logging.ERROR:
            self._errors().append(msg.strip())

    def take_errors(self) -> str:
        """What TensorRT complained of on this thread since this was last asked."""
        errors = self._errors()
        text = " | ".join(errors[-KEPT_MESSAGES:])
        errors.clear()
        return text or "TensorRT gave no reason"

    def _errors(self) -> list[str]:
        if not hasattr(self._kept, "errors"):
            self._kept.errors = []
        errors: list[str] = self._kept.errors
        return errors


@cache
def tensorrt_log() -> TensorRtLog:
    """The process's one logger: TensorRT keeps the first that it is given, and complains of every other."""
    return TensorRtLog()


@dataclass(frozen=True, slots=True)
class Ports:
    """The names of the engine's input and output."""

    frames: str
    alpha: str


def load_programs(
    plan: bytes, shapes: tuple[SlotShape, ...], cuda: Cuda, resources: ExitStack, stream: int
) -> ProgramFactory:
    """Deserialize a plan whose bytes were checked (`engines.plan_cache`), and hold it against the shapes wanted.

    Args:
        plan: as the builder wrote it.
        shapes: which have to be among its static profiles.
        cuda: the device, attached.
        resources: gives everything back, in reverse.
        stream: on which the programs are going to run.

    Raises:
        DeviceMemoryError: no room on the device.
        EngineFailedError: TensorRT refused it, or it is not of the form wanted.
    """
    log = tensorrt_log()
    try:
        runtime = trt.Runtime(log)
    except TypeError as error:  # pybind11's way to say that creation gave nothing
        raise EngineFailedError(f"TensorRT {tensorrt_version()} makes no Runtime: {log.take_errors()}") from error
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise _refused("deserialize_cuda_engine", log)
    # Both outlive every context, and go, in this order, on the thread that owns the device.
    loaded: list[object] = [runtime, engine]
    resources.callback(_let_go, loaded)
    ports = _ports(engine)
    profiles = _profiles(engine, ports)
    if missing := [shape.input for shape in shapes if shape.input not in profiles]:
        raise EngineFailedError(
            f"the engine has no static profile for {missing}, it has {sorted(profiles)}; build it anew"
        )
    scratch_bytes = engine.device_memory_size_v2
    scratch = cuda.allocate(max(scratch_bytes, 1))
    resources.callback(cuda.free, scratch)

    del runtime

    def make(shape: SlotShape, source: int, target: int) -> "TensorRtProgram":
        program = TensorRtProgram(engine, ports, log)
        try:
            program.bind(profiles[shape.input], shape, source, target, stream)
            program.use_scratch(scratch, scratch_bytes)
            cuda.synchronize_stream(stream)  # the profile is set by a copy on the stream
        except BaseException:
            program.release()
            raise
        return program

    return make


class TensorRtProgram:
    """An execution context with fixed profile, shapes and addresses; a graph captured from it keeps all of these."""

    def __init__(self, engine: trt.ICudaEngine, ports: Ports, log: TensorRtLog) -> None:
        self._ports, self._log = ports, log
        context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise _refused("create_execution_context", log)
        self._context: trt.IExecutionContext | None = context

    def bind(self, profile: int, shape: SlotShape, source: int, target: int, stream: int) -> None:
        """Fix the profile, the shapes and the addresses.

        Raises:
            EngineFailedError: naming the call that was refused.
        """
        context, frames, alpha = self._open(), self._ports.frames, self._ports.alpha
        self._check(
            context.set_optimization_profile_async(profile, stream), f"set_optimization_profile_async({profile})"
        )
        self._check(context.set_input_shape(frames, shape.input), f"set_input_shape({frames}, {shape.input})")
        if missing := context.infer_shapes():
            raise EngineFailedError(f"TensorRT wants shapes of {missing} as well; the model must have one input")
        if (seen := _sizes(context.get_tensor_shape(alpha))) != shape.output:
            raise EngineFailedError(f"the engine answers {seen} to {shape.input}, expected {shape.output}")
        self._check(context.set_tensor_address(frames, source), f"set_tensor_address({frames})")
        self._check(context.set_tensor_address(alpha, target), f"set_tensor_address({alpha})")

    def use_scratch(self, address: int, size_bytes: int) -> None:
        """Let the context compute in memory that all contexts of the device share."""
        self._open().set_device_memory(address, size_bytes)

    def enqueue(self, stream: int) -> None:
        """Begin the network on a stream; see `engines.gpu_slot.Program`."""
        self._check(self._open().execute_async_v3(stream), "execute_async_v3")

    def release(self) -> None:
        """Let the context go; see `engines.gpu_slot.Program`."""
        self._context = None

    def _open(self) -> trt.IExecutionContext:
        if self._context is None:
            raise EngineFailedError("this execution context was released")
        return self._context

    def _check(self, accepted: bool, call: str) -> None:
        if not accepted:
            raise _refused(call, self._log)


def _let_go(loaded: list[object]) -> None:
    while loaded:
        loaded.pop()


def _refused(call: str, log: TensorRtLog) -> EngineFailedError:
    reason = log.take_errors()
    if "out of memory" in reason.lower() or "outofmemory" in reason.lower():
        advice = "free GPU memory, serve fewer models, or lower --max-batch and build for that"
        return DeviceMemoryError(f"TensorRT's {call}", reason, advice)
    return EngineFailedError(f"TensorRT {tensorrt_version()} refused {call}: {reason}")


def _ports(engine: trt.ICudaEngine) -> Ports:
    """Raises EngineFailedError where the engine is not uint8 frames in, float32 alpha out, both on the device."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    seen = {
        name: (
            engine.get_tensor_mode(name).name,
            engine.get_tensor_dtype(name).name,
            engine.get_tensor_location(name).name,
            engine.get_tensor_format(name).name,
        )
        for name in names
    }
    frames = [name for name, facts in seen.items() if facts == ("INPUT", "UINT8", "DEVICE", "LINEAR")]
    alphas = [name for name, facts in seen.items() if facts == ("OUTPUT", "FLOAT", "DEVICE", "LINEAR")]
    if not (len(names) == 2 and len(frames) == len(alphas) == 1):
        raise EngineFailedError(
            f"the engine has {seen}, expected one UINT8 input and one FLOAT output, LINEAR, on the device; build anew"
        )
    return Ports(frames[0], alphas[0])


def _profiles(engine: trt.ICudaEngine, ports: Ports) -> dict[tuple[int, ...], int]:
    """Input shape -> index of its static profile."""
    found: dict[tuple[int, ...], int] = {}
    for index in range(engine.num_optimization_profiles):
        low, best, high = (_sizes(dims) for dims in engine.get_tensor_profile_shape(ports.frames, index))
        if low == best == high:
            found[best] = index
    return found


def _sizes(dims: trt.Dims) -> tuple[int, ...]:
    return tuple(int(dims[index]) for index in range(len(dims)))
