"""The CUDA calls that a GPU runner needs, behind one protocol, so that the package behind them can be chosen.

`engines.cuda_bindings` is the default (NVIDIA's own wheels, with graphs); `engines.cuda_pycuda` the alternative,
without graphs. Addresses, streams, events and graphs are plain ints: so TensorRT takes them. An implementation talks to
one device, and its calls belong to the one thread that owns that device (`engines.gpu_pipeline`); only events may be
waited for and compared on a second one.

The package is imported when it is asked for by name, never before `engines.probe` has found a driver.
"""

import ctypes
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from engines.runner import EngineFailedError, EngineUnavailableError


class CudaError(EngineFailedError):
    """A CUDA call answered something else than success."""

    def __init__(self, call: str, status: str, advice: str = "") -> None:
        super().__init__(f"{call} answered {status}" + (f"; {advice}" if advice else ""))
        self.call = call
        self.status = status


class DeviceMemoryError(CudaError):
    """Memory of the device, or pinned memory of the host, is used up. Nothing else is harmed by it."""


class GraphsUnsupportedError(EngineUnavailableError):
    """This package has no CUDA graphs."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Of a whole device, whoever uses it."""

    free_bytes: int
    total_bytes: int


class Cuda(Protocol):
    """One device. Every call raises `CudaError`, and `DeviceMemoryError` where memory is used up."""

    @property
    def package(self) -> str:
        """The package behind it with its version, for example ``cuda-bindings 13.5.0``."""
        ...

    @property
    def device(self) -> int:
        """Index of the device."""
        ...

    @property
    def has_graphs(self) -> bool:
        """Whether `begin_capture` and what follows it can be called."""
        ...

    def attach(self) -> None:
        """Make the device's primary context current on the calling thread; before all else, once a thread."""
        ...

    def detach(self) -> None:
        """Undo `attach`, on the same thread."""
        ...

    def memory(self) -> DeviceMemory:
        """How much memory is left."""
        ...

    def allocate(self, size_bytes: int) -> int:
        """Device memory, aligned to 256 bytes; its address."""
        ...

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""
        ...

    def allocate_pinned(self, size_bytes: int) -> int:
        """Page-locked host memory, which copies beside the CPU need; its address. See `host_bytes`."""
        ...

    def free_pinned(self, address: int) -> None:
        """Give back what `allocate_pinned` gave; no array may look at it any more."""
        ...

    def copy_to_device(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Begin a copy from pinned memory to the device."""
        ...

    def copy_to_host(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Begin a copy from the device to pinned memory."""
        ...

    def create_stream(self) -> int:
        """A stream that does not wait for the default stream; its handle."""
        ...

    def destroy_stream(self, stream: int) -> None:
        """Give back what `create_stream` gave."""
        ...

    def synchronize_stream(self, stream: int) -> None:
        """Wait until all that was begun on a stream is done."""
        ...

    def create_event(self) -> int:
        """An event that keeps its time, and whose waiters sleep instead of spinning."""
        ...

    def destroy_event(self, event: int) -> None:
        """Give back what `create_event` gave."""
        ...

    def record_event(self, event: int, stream: int) -> None:
        """Let an event happen when what was begun on the stream so far is done."""
        ...

    def wait_event(self, stream: int, event: int) -> None:
        """Let what is begun on the stream from now on wait for an event; the caller does not wait."""
        ...

    def synchronize_event(self, event: int) -> None:
        """Wait for an event; on any thread that is attached."""
        ...

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds on the device between two events that have happened; on any thread that is attached."""
        ...

    def begin_capture(self, stream: int) -> None:
        """Write down what is begun on a stream instead of doing it; other threads may go on allocating."""
        ...

    def end_capture(self, stream: int) -> int:
        """End `begin_capture`; the graph, ready to launch. Raises after a failed capture; the stream stays usable."""
        ...

    def launch_graph(self, graph: int, stream: int) -> None:
        """Begin what was written down."""
        ...

    def destroy_graph(self, graph: int) -> None:
        """Give back what `end_capture` gave."""
        ...


class CudaPackage(StrEnum):
    """What is behind the protocol."""

    CUDA_BINDINGS = "cuda-bindings"
    PYCUDA = "pycuda"


#: Package -> module and class of ours, name to import, extra of this project that installs it.
_IMPLEMENTATIONS = {
    CudaPackage.CUDA_BINDINGS: ("engines.cuda_bindings", "BindingsCuda", "gpu"),
    CudaPackage.PYCUDA: ("engines.cuda_pycuda", "PycudaCuda", "pycuda"),
}


def open_cuda(device: int, package: CudaPackage = CudaPackage.CUDA_BINDINGS) -> Cuda:
    """The CUDA calls for one device; `engines.probe` must have found it before.

    Raises:
        EngineUnavailableError: the package is not installed.
        CudaError: the device cannot be used.
    """
    module, name, extra = _IMPLEMENTATIONS[package]
    try:
        implementation = getattr(import_module(module), name)
    except ImportError as error:
        raise EngineUnavailableError(
            f"the CUDA package {package} cannot be imported ({error}); install `humanseg[{extra}]`"
        ) from error
    return cast(Cuda, implementation(device))


def host_bytes(address: int, size_bytes: int) -> NDArray[np.uint8]:
    """Memory that somebody else owns, and must keep longer than the array, as (size_bytes,) uint8."""
    return np.frombuffer(memoryview((ctypes.c_ubyte * size_bytes).from_address(address)).cast("B"), np.uint8)


def memory_advice(size_bytes: int, memory: DeviceMemory | None) -> str:
    """What to say beside a refusal of memory."""
    left = "" if memory is None else f", {memory.free_bytes >> 20} of {memory.total_bytes >> 20} MiB are free"
    return f"{size_bytes >> 20} MiB were asked for{left}; free memory there, serve fewer models, or lower --max-batch"
