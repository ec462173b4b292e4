"""A batch of one fixed shape on a GPU: its pinned and device buffers, its events, its program and the captured graph.

Everything here belongs to the thread that owns the device (`engines.gpu_pipeline`), but the two host arrays: those
belong to whoever holds the slot.
"""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engines.cuda import Cuda, CudaError, host_bytes
from humanseg.vision.arrays import Size


class Launch(Enum):
    """How the work of a batch is given to the device."""

    GRAPH = "CUDA graph"
    """Captured once, then launched as a whole."""
    PLAIN = "plain launches"
    """Kernel by kernel."""


@dataclass(frozen=True, slots=True)
class SlotShape:
    """What a slot holds at most."""

    bucket: int
    """Frames; a smaller batch fills the first rows."""
    canvas: Size
    channels: int

    @property
    def input(self) -> tuple[int, int, int, int]:
        """(N, H, W, C), uint8."""
        return (self.bucket, *self.canvas.shape, self.channels)

    @property
    def output(self) -> tuple[int, int, int]:
        """(N, H, W), float32."""
        return (self.bucket, *self.canvas.shape)

    def input_bytes(self, count: int) -> int:
        """Of ``count`` frames."""
        return count * self.canvas.width * self.canvas.height * self.channels

    def output_bytes(self, count: int) -> int:
        """Of ``count`` alphas."""
        return count * self.canvas.width * self.canvas.height * np.dtype(np.float32).itemsize


class Program(Protocol):
    """What the device does with a batch in fixed buffers."""

    def enqueue(self, stream: int) -> None:
        """Begin it on a stream. Allocates nothing, so that it can be captured.

        Raises:
            EngineFailedError: it was refused.
        """
        ...

    def release(self) -> None:
        """Give back what it holds on the device."""
        ...


#: (shape, device address of the input, of the output) -> the program for these buffers.
ProgramFactory = Callable[[SlotShape, int, int], Program]


@dataclass(frozen=True, slots=True)
class GpuTimes:
    """Of one batch, by events on the device, in milliseconds."""

    copy_in_ms: float
    compute_ms: float
    copy_out_ms: float
    total_ms: float
    """From the beginning of the copy in to the end of the copy out, waiting for other batches included."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Of a device: copies run beside the computing, each in its own queue."""

    copy_in: int
    compute: int
    copy_out: int

    @classmethod
    def create(cls, cuda: Cuda, resources: ExitStack) -> "Streams":
        """Three new ones, destroyed with ``resources``."""
        return cls(*(_stream(cuda, resources) for _ in range(3)))

    def synchronize(self, cuda: Cuda) -> None:
        """Wait until nothing is under way."""
        for stream in (self.copy_in, self.compute, self.copy_out):
            cuda.synchronize_stream(stream)


def _stream(cuda: Cuda, resources: ExitStack) -> int:
    stream = cuda.create_stream()
    resources.callback(cuda.destroy_stream, stream)
    return stream


class Slot:
    """Buffers, program and graph of one shape. Two of each shape let the copies of one run beside the other."""

    def __init__(
        self,
        cuda: Cuda,
        resources: ExitStack,
        shape: SlotShape,
        factory: ProgramFactory,
        streams: Streams,
        launch: Launch,
    ) -> None:
        """Allocate, run the program once, and capture it.

        Everything is given back with ``resources``, in reverse.

        Raises:
            DeviceMemoryError: no room for it.
            EngineFailedError: the program was refused.
        """
        self.shape = shape
        self.capture_refused: str | None = None
        """Why there is no graph, although one was asked for."""
        self._cuda, self._streams = cuda, streams
        self._pinned_in = self._pinned(resources, shape.input_bytes(shape.bucket))
        self._pinned_out = self._pinned(resources, shape.output_bytes(shape.bucket))
        self._device_in = self._device(resources, shape.input_bytes(shape.bucket))
        self._device_out = self._device(resources, shape.output_bytes(shape.bucket))
        self.host_input: NDArray[np.uint8] = host_bytes(self._pinned_in, shape.input_bytes(shape.bucket)).reshape(
            shape.input
        )
        self.host_output: NDArray[np.float32] = (
            host_bytes(self._pinned_out, shape.output_bytes(shape.bucket)).view(np.float32).reshape(shape.output)
        )
        self._begun, self._copied_in, self._computing, self._computed, self._done = (
            self._event(resources) for _ in range(5)
        )
        self.host_input[:] = 0
        cuda.copy_to_device(self._device_in, self._pinned_in, shape.input_bytes(shape.bucket), streams.copy_in)
        cuda.synchronize_stream(streams.copy_in)
        self._program = factory(shape, self._device_in, self._device_out)
        resources.callback(self._program.release)
        # Once before capturing: TensorRT brings its state in line with the shape on the first run after a change.
        self._program.enqueue(streams.compute)
        cuda.synchronize_stream(streams.compute)
        self._graph: int | None = None
        if launch is Launch.GRAPH:
            self._graph = self._capture(resources)

    def begin(self, count: int) -> None:
        """Queue the copy in, the computing and the copy out of the first ``count`` rows; waits for nothing."""
        cuda, streams = self._cuda, self._streams
        cuda.record_event(self._begun, streams.copy_in)
        cuda.copy_to_device(self._device_in, self._pinned_in, self.shape.input_bytes(count), streams.copy_in)
        cuda.record_event(self._copied_in, streams.copy_in)
        cuda.wait_event(streams.compute, self._copied_in)
        cuda.record_event(self._computing, streams.compute)
        if self._graph is None:
            self._program.enqueue(streams.compute)
        else:
            cuda.launch_graph(self._graph, streams.compute)
        cuda.record_event(self._computed, streams.compute)
        cuda.wait_event(streams.copy_out, self._computed)
        cuda.copy_to_host(self._pinned_out, self._device_out, self.shape.output_bytes(count), streams.copy_out)
        cuda.record_event(self._done, streams.copy_out)

    def wait(self) -> None:
        """Until what `begin` queued is done; on any thread that is attached."""
        self._cuda.synchronize_event(self._done)

    def times(self) -> GpuTimes:
        """Of the batch that `wait` has waited for; on any thread that is attached."""
        elapsed = self._cuda.elapsed_ms
        return GpuTimes(
            copy_in_ms=elapsed(self._begun, self._copied_in),
            compute_ms=elapsed(self._computing, self._computed),
            copy_out_ms=elapsed(self._computed, self._done),
            total_ms=elapsed(self._begun, self._done),
        )

    def _capture(self, resources: ExitStack) -> int | None:
        stream = self._streams.compute
        try:
            self._cuda.begin_capture(stream)
            try:
                self._program.enqueue(stream)
            except BaseException:
                with suppress(CudaError):  # the stream must leave the capture; the first error says why it failed
                    self._cuda.destroy_graph(self._cuda.end_capture(stream))
                raise
            graph = self._cuda.end_capture(stream)
        except CudaError as error:
            self.capture_refused = str(error)
            return None
        resources.callback(self._cuda.destroy_graph, graph)
        self._cuda.launch_graph(graph, stream)
        self._cuda.synchronize_stream(stream)
        return graph

    def _pinned(self, resources: ExitStack, size_bytes: int) -> int:
        address = self._cuda.allocate_pinned(size_bytes)
        resources.callback(self._cuda.free_pinned, address)
        return address

    def _device(self, resources: ExitStack, size_bytes: int) -> int:
        address = self._cuda.allocate(size_bytes)
        resources.callback(self._cuda.free, address)
        return address

    def _event(self, resources: ExitStack) -> int:
        event = self._cuda.create_event()
        resources.callback(self._cuda.destroy_event, event)
        return event
