"""CUDA by pycuda, for whoever has it already. It has no CUDA graphs, so every batch launches its kernels one by one.

The device's *primary* context is retained, which TensorRT and everything else in the process use as well; a context of
its own, as ``pycuda.autoinit`` makes one on the importing thread, gives "invalid resource handle" in every other
library. pycuda wants its own objects back, so they are kept here by the ints that the protocol speaks of.

Not run on a GPU yet: pycuda has no wheel (docs/gpu.md).
"""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import pycuda
import pycuda.driver as driver

from engines.cuda import CudaError, DeviceMemory, DeviceMemoryError, GraphsUnsupportedError, memory_advice

#: CU_STREAM_NON_BLOCKING
STREAM_FLAGS = 1
_Answer = TypeVar("_Answer")


class PycudaCuda:
    """`engines.cuda.Cuda` by pycuda."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.package = f"pycuda {pycuda.VERSION_TEXT}"
        self.has_graphs = False
        _checked("cuInit", driver.init)
        self._context = _checked("cuDevicePrimaryCtxRetain", lambda: driver.Device(device).retain_primary_context())
        self._memory: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}

    def attach(self) -> None:
        """See `Cuda`."""
        _checked("cuCtxPushCurrent", self._context.push)

    def detach(self) -> None:
        """See `Cuda`."""
        _checked("cuCtxPopCurrent", self._context.pop)

    def memory(self) -> DeviceMemory:
        """See `Cuda`."""
        free, total = _checked("cuMemGetInfo", driver.mem_get_info)
        return DeviceMemory(int(free), int(total))

    def allocate(self, size_bytes: int) -> int:
        """See `Cuda`."""
        block = self._allocated("cuMemAlloc", size_bytes, lambda: driver.mem_alloc(size_bytes))
        self._memory[int(block)] = block
        return int(block)

    def free(self, address: int) -> None:
        """See `Cuda`."""
        _checked("cuMemFree", self._memory.pop(address).free)

    def allocate_pinned(self, size_bytes: int) -> int:
        """See `Cuda`."""
        array = self._allocated("cuMemHostAlloc", size_bytes, lambda: driver.pagelocked_empty(size_bytes, "uint8"))
        address = int(array.ctypes.data)
        self._memory[address] = array
        return address

    def free_pinned(self, address: int) -> None:
        """See `Cuda`."""
        _checked("cuMemFreeHost", self._memory.pop(address).base.free)

    def copy_to_device(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """See `Cuda`."""
        pinned, queue = self._memory[source][:size_bytes], self._streams[stream]
        _checked(f"cuMemcpyHtoDAsync({size_bytes})", lambda: driver.memcpy_htod_async(target, pinned, queue))

    def copy_to_host(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """See `Cuda`."""
        pinned, queue = self._memory[target][:size_bytes], self._streams[stream]
        _checked(f"cuMemcpyDtoHAsync({size_bytes})", lambda: driver.memcpy_dtoh_async(pinned, source, queue))

    def create_stream(self) -> int:
        """See `Cuda`."""
        stream = _checked("cuStreamCreate", lambda: driver.Stream(STREAM_FLAGS))
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        """See `Cuda`; pycuda destroys a stream with the last reference to it."""
        del self._streams[stream]

    def synchronize_stream(self, stream: int) -> None:
        """See `Cuda`."""
        _checked("cuStreamSynchronize", self._streams[stream].synchronize)

    def create_event(self) -> int:
        """See `Cuda`."""
        event = _checked("cuEventCreate", lambda: driver.Event(driver.event_flags.BLOCKING_SYNC))
        self._events[id(event)] = event
        return id(event)

    def destroy_event(self, event: int) -> None:
        """See `Cuda`; pycuda destroys an event with the last reference to it."""
        del self._events[event]

    def record_event(self, event: int, stream: int) -> None:
        """See `Cuda`."""
        _checked("cuEventRecord", lambda: self._events[event].record(self._streams[stream]))

    def wait_event(self, stream: int, event: int) -> None:
        """See `Cuda`."""
        _checked("cuStreamWaitEvent", lambda: self._streams[stream].wait_for_event(self._events[event]))

    def synchronize_event(self, event: int) -> None:
        """See `Cuda`."""
        _checked("cuEventSynchronize", self._events[event].synchronize)

    def elapsed_ms(self, start: int, end: int) -> float:
        """See `Cuda`."""
        return float(_checked("cuEventElapsedTime", lambda: self._events[start].time_till(self._events[end])))

    def begin_capture(self, stream: int) -> NoReturn:
        """Raises GraphsUnsupportedError."""
        raise _no_graphs(self.package)

    def end_capture(self, stream: int) -> NoReturn:
        """Raises GraphsUnsupportedError."""
        raise _no_graphs(self.package)

    def launch_graph(self, graph: int, stream: int) -> NoReturn:
        """Raises GraphsUnsupportedError."""
        raise _no_graphs(self.package)

    def destroy_graph(self, graph: int) -> NoReturn:
        """Raises GraphsUnsupportedError."""
        raise _no_graphs(self.package)

    def _allocated(self, call: str, size_bytes: int, allocate: Callable[[], Any]) -> Any:
        try:
            return _checked(f"{call}({size_bytes})", allocate)
        except DeviceMemoryError as error:
            raise DeviceMemoryError(error.call, error.status, memory_advice(size_bytes, self.memory())) from None


def _checked(call: str, function: Callable[[], _Answer]) -> _Answer:
    """pycuda checks every status and raises; here its errors become ours."""
    try:
        return function()
    except driver.MemoryError as error:
        raise DeviceMemoryError(call, str(error)) from error
    except driver.Error as error:
        raise CudaError(call, str(error)) from error


def _no_graphs(package: str) -> GraphsUnsupportedError:
    return GraphsUnsupportedError(f"{package} has no CUDA graphs; install `humanseg[gpu]` for cuda-bindings, which has")
