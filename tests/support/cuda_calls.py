"""Writes down which CUDA calls are made and in which order. It computes nothing: only the order may be looked at."""

import itertools
import threading
from collections.abc import Sequence

import numpy as np

from engines.cuda import DeviceMemory

Call = tuple[object, ...]


class RecordingCuda:
    """`engines.cuda.Cuda` that only takes notes. Pinned memory is real memory, so that callers can write to it."""

    package = "notes"
    device = 0
    has_graphs = True

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._numbers = itertools.count(1)
        self._pinned: dict[int, np.ndarray] = {}
        self._noted = threading.Condition()

    def note(self, *call: object) -> None:
        with self._noted:
            self.calls.append(call)
            self._noted.notify_all()

    def names(self) -> list[str]:
        return [str(call[0]) for call in self.calls]

    def wait_until_noted(self, name: str, times: int, timeout_s: float) -> bool:
        with self._noted:
            return self._noted.wait_for(lambda: self.names().count(name) >= times, timeout_s)

    def _made(self, name: str, number: int | None = None) -> int:
        handle = next(self._numbers) if number is None else number
        self.note(name, handle)
        return handle

    def attach(self) -> None:
        self.note("attach")

    def detach(self) -> None:
        self.note("detach")

    def memory(self) -> DeviceMemory:
        return DeviceMemory(0, 0)

    def allocate(self, size_bytes: int) -> int:
        return self._made("allocate")

    def free(self, address: int) -> None:
        self.note("free", address)

    def allocate_pinned(self, size_bytes: int) -> int:
        memory = np.zeros(size_bytes, np.uint8)
        address = int(memory.ctypes.data)
        self._pinned[address] = memory
        return self._made("allocate_pinned", address)

    def free_pinned(self, address: int) -> None:
        self.note("free_pinned", address)

    def copy_to_device(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        self.note("copy_to_device", stream)

    def copy_to_host(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        self.note("copy_to_host", stream)

    def create_stream(self) -> int:
        return self._made("create_stream")

    def destroy_stream(self, stream: int) -> None:
        self.note("destroy_stream", stream)

    def synchronize_stream(self, stream: int) -> None:
        self.note("synchronize_stream", stream)

    def create_event(self) -> int:
        return self._made("create_event")

    def destroy_event(self, event: int) -> None:
        self.note("destroy_event", event)

    def record_event(self, event: int, stream: int) -> None:
        self.note("record_event", event, stream)

    def wait_event(self, stream: int, event: int) -> None:
        self.note("wait_event", event, stream)

    def synchronize_event(self, event: int) -> None:
        self.note("synchronize_event", event)

    def elapsed_ms(self, start: int, end: int) -> float:
        return 0.0

    def begin_capture(self, stream: int) -> None:
        self.note("begin_capture", stream)

    def end_capture(self, stream: int) -> int:
        return self._made("end_capture")

    def launch_graph(self, graph: int, stream: int) -> None:
        self.note("launch_graph", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self.note("destroy_graph", graph)


class RecordingProgram:
    """A program that takes notes as well."""

    def __init__(self, cuda: RecordingCuda) -> None:
        self._cuda = cuda

    def enqueue(self, stream: int) -> None:
        self._cuda.note("enqueue", stream)

    def release(self) -> None:
        self._cuda.note("release", id(self))


#: What gives back what was made.
UNDONE_BY = {
    "attach": "detach",
    "allocate": "free",
    "allocate_pinned": "free_pinned",
    "create_stream": "destroy_stream",
    "create_event": "destroy_event",
    "end_capture": "destroy_graph",
}


def made(calls: Sequence[Call]) -> list[Call]:
    """What was made, as the calls that give it back, in the order of making."""
    return [(UNDONE_BY[str(call[0])], *call[1:]) for call in calls if call[0] in UNDONE_BY]


def undone(calls: Sequence[Call]) -> list[Call]:
    """What was given back, in that order."""
    return [call for call in calls if call[0] in UNDONE_BY.values()]
