"""CUDA by NVIDIA's own Python package ``cuda-bindings``: its runtime API, with the runtime library inside the wheel."""

from importlib.metadata import version
from typing import Any

from cuda.bindings import runtime

from engines.cuda import CudaError, DeviceMemory, DeviceMemoryError, memory_advice

#: cudaEventBlockingSync: who waits for an event sleeps, since the CPU has pictures to decode.
EVENT_FLAGS = 1
#: cudaStreamNonBlocking
STREAM_FLAGS = 1


def check(answer: tuple[Any, ...], call: str, advice: str = "") -> Any:
    """The value that a call gave beside its status, if it gave one.

    Raises:
        DeviceMemoryError: the status is cudaErrorMemoryAllocation.
        CudaError: any other status but success.
    """
    status, *values = answer
    if status != runtime.cudaError_t.cudaSuccess:
        # Take the error off this thread: TensorRT and others ask for the last error after calls of their own.
        runtime.cudaGetLastError()
        name, text = (
            found.decode() if problem == runtime.cudaError_t.cudaSuccess and found else ""
            for problem, found in (runtime.cudaGetErrorName(status), runtime.cudaGetErrorString(status))
        )
        described = f"{name or 'an unknown status'} ({int(status)}{f': {text}' if text else ''})"
        exhausted = status == runtime.cudaError_t.cudaErrorMemoryAllocation
        raise (DeviceMemoryError if exhausted else CudaError)(call, described, advice)
    return values[0] if values else None


class BindingsCuda:
    """`engines.cuda.Cuda` by cuda-bindings."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.package = f"cuda-bindings {version('cuda-bindings')}"
        self.has_graphs = True

    def attach(self) -> None:
        """See `Cuda`."""
        check(runtime.cudaSetDevice(self.device), f"cudaSetDevice({self.device})")

    def detach(self) -> None:
        """See `Cuda`; the runtime API keeps nothing on a thread that would have to be undone."""

    def memory(self) -> DeviceMemory:
        """See `Cuda`."""
        status, free, total = runtime.cudaMemGetInfo()
        check((status,), "cudaMemGetInfo")
        return DeviceMemory(int(free), int(total))

    def allocate(self, size_bytes: int) -> int:
        """See `Cuda`."""
        return self._allocated(runtime.cudaMalloc(size_bytes), f"cudaMalloc({size_bytes})", size_bytes)

    def free(self, address: int) -> None:
        """See `Cuda`."""
        check(runtime.cudaFree(address), "cudaFree")

    def allocate_pinned(self, size_bytes: int) -> int:
        """See `Cuda`."""
        return self._allocated(runtime.cudaHostAlloc(size_bytes, 0), f"cudaHostAlloc({size_bytes})", size_bytes)

    def free_pinned(self, address: int) -> None:
        """See `Cuda`."""
        check(runtime.cudaFreeHost(address), "cudaFreeHost")

    def copy_to_device(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """See `Cuda`."""
        self._copy(target, source, size_bytes, runtime.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def copy_to_host(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """See `Cuda`."""
        self._copy(target, source, size_bytes, runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def create_stream(self) -> int:
        """See `Cuda`."""
        return int(check(runtime.cudaStreamCreateWithFlags(STREAM_FLAGS), "cudaStreamCreateWithFlags"))

    def destroy_stream(self, stream: int) -> None:
        """See `Cuda`."""
        check(runtime.cudaStreamDestroy(stream), "cudaStreamDestroy")

    def synchronize_stream(self, stream: int) -> None:
        """See `Cuda`."""
        check(runtime.cudaStreamSynchronize(stream), "cudaStreamSynchronize")

    def create_event(self) -> int:
        """See `Cuda`."""
        return int(check(runtime.cudaEventCreateWithFlags(EVENT_FLAGS), "cudaEventCreateWithFlags"))

    def destroy_event(self, event: int) -> None:
        """See `Cuda`."""
        check(runtime.cudaEventDestroy(event), "cudaEventDestroy")

    def record_event(self, event: int, stream: int) -> None:
        """See `Cuda`."""
        check(runtime.cudaEventRecord(event, stream), "cudaEventRecord")

    def wait_event(self, stream: int, event: int) -> None:
        """See `Cuda`."""
        check(runtime.cudaStreamWaitEvent(stream, event, 0), "cudaStreamWaitEvent")

    def synchronize_event(self, event: int) -> None:
        """See `Cuda`."""
        check(runtime.cudaEventSynchronize(event), "cudaEventSynchronize")

    def elapsed_ms(self, start: int, end: int) -> float:
        """See `Cuda`."""
        return float(check(runtime.cudaEventElapsedTime(start, end), "cudaEventElapsedTime"))

    def begin_capture(self, stream: int) -> None:
        """See `Cuda`; thread-local, so that another thread's allocation does not break the capture."""
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        check(runtime.cudaStreamBeginCapture(stream, mode), "cudaStreamBeginCapture")

    def end_capture(self, stream: int) -> int:
        """See `Cuda`."""
        graph = check(runtime.cudaStreamEndCapture(stream), "cudaStreamEndCapture")
        try:
            ready = check(runtime.cudaGraphInstantiate(graph, 0), "cudaGraphInstantiate")
            check(runtime.cudaGraphUpload(ready, stream), "cudaGraphUpload")
        finally:
            check(runtime.cudaGraphDestroy(graph), "cudaGraphDestroy")
        return int(ready)

    def launch_graph(self, graph: int, stream: int) -> None:
        """See `Cuda`."""
        check(runtime.cudaGraphLaunch(graph, stream), "cudaGraphLaunch")

    def destroy_graph(self, graph: int) -> None:
        """See `Cuda`."""
        check(runtime.cudaGraphExecDestroy(graph), "cudaGraphExecDestroy")

    def _copy(self, target: int, source: int, size_bytes: int, kind: runtime.cudaMemcpyKind, stream: int) -> None:
        check(
            runtime.cudaMemcpyAsync(target, source, size_bytes, kind, stream),
            f"cudaMemcpyAsync({size_bytes}, {kind.name})",
        )

    def _allocated(self, answer: tuple[Any, ...], call: str, size_bytes: int) -> int:
        try:
            return int(check(answer, call))
        except DeviceMemoryError as error:
            _, free, total = runtime.cudaMemGetInfo()
            left = None if free is None else DeviceMemory(int(free), int(total))
            raise DeviceMemoryError(error.call, error.status, memory_advice(size_bytes, left)) from None
