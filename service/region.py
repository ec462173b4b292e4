"""A region of shared memory while a stream has it open: pictures out, answers in, by ``pread`` and ``pwrite``.

Never mapped: a client that makes the region smaller costs itself a frame, not the server its life (SIGBUS), and a
picture cannot change between the check of its header and its decoding. What the copy costs stands in docs/design.md.
"""

import os
import threading
from dataclasses import dataclass

from humanseg.shared_memory import RegionLayout, Span, read_whole, write_whole


class SharedMemoryError(Exception):
    """A frame's bytes cannot be read from its slot, or its answer not be written; the text says why."""


class SharedFile:
    """An open shared-memory object of a client's. Read and written by worker threads, closed by the event loop."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        """``size_bytes``: how large the client said it is."""
        self._descriptor = descriptor
        self._size_bytes = size_bytes
        # Without it, close could give the descriptor's number to another file while a thread reads.
        self._lock = threading.Lock()

    def read_into(self, view: memoryview, position: int) -> None:
        """Fill ``view`` with what begins at ``position``.

        Raises:
            SharedMemoryError: it is not there any more.
        """
        with self._lock:
            self._require_open()
            try:
                read_whole(self._descriptor, view, position)
            except (ValueError, OSError) as error:
                raise SharedMemoryError(f"picture cannot be read: {error}") from None

    def write(self, payload: bytes | memoryview, position: int, what: str = "mask") -> None:
        """Write a mask, or ``what`` else it is, at ``position``.

        Raises:
            SharedMemoryError: the object has become too small.
        """
        with self._lock:
            self._require_open()
            try:
                # A write behind the end would make the region larger again. The client that shrinks it just now still
                # can: by that it gets back no more than what it had registered.
                size_bytes = os.fstat(self._descriptor).st_size
                if size_bytes < position + len(payload):
                    text = f"the region has {size_bytes} bytes, {self._size_bytes} were registered"
                    raise SharedMemoryError(f"{what} cannot be written: {text}; never make it smaller")
                write_whole(self._descriptor, payload, position)
            except OSError as error:
                raise SharedMemoryError(f"{what} cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Let go of it; a thread that still works on a picture in it gets a SharedMemoryError."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _require_open(self) -> None:
        if self._descriptor < 0:
            raise SharedMemoryError("the stream has ended, or the region was unregistered")


class Region:
    """A stream's region: rings of slots in a `SharedFile`. Read and written by one worker thread at a time."""

    def __init__(self, layout: RegionLayout, descriptor: int) -> None:
        self.layout = layout
        self._file = SharedFile(descriptor, layout.size_bytes)
        # One buffer for all pictures of the stream: fresh memory would be faulted in page by page for each.
        self._picture = bytearray()

    def read(self, span: Span) -> memoryview:
        """A copy of a picture's bytes; the next call overwrites it.

        Raises:
            SharedMemoryError: they are not there any more.
        """
        if len(self._picture) < span.length_bytes:
            self._picture = bytearray(span.length_bytes)
        view = memoryview(self._picture)[: span.length_bytes]
        self._file.read_into(view, self.layout.pictures.position(span))
        return view

    def write_answer(self, slot: int, payload: bytes | memoryview, what: str) -> Span:
        """Write a frame's mask or finished picture into its mask slot; ``what`` it is, for the complaint.

        Raises:
            SharedMemoryError: it does not fit, or the region has become too small.
        """
        span = Span(slot, 0, len(payload))
        if complaint := self.layout.masks.span_complaint(span):
            raise SharedMemoryError(f"{what} of {len(payload)} bytes does not fit: {complaint}; make mask slots larger")
        self._file.write(payload, self.layout.masks.position(span), what)
        return span

    def close(self) -> None:
        """Let go of the region; see `SharedFile.close`."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class SharedPicture:
    """A picture in a slot, not read yet, and the slot for its answer. ``len`` is its bytes, as of one in a message."""

    region: Region
    span: Span
    mask_slot: int

    def __len__(self) -> int:
        return self.span.length_bytes

    def read(self) -> memoryview:
        """See `Region.read`."""
        return self.region.read(self.span)

    def write_mask(self, mask: bytes | memoryview) -> Span:
        """See `Region.write_answer`."""
        return self.region.write_answer(self.mask_slot, mask, "mask")

    def write_picture(self, picture: bytes) -> Span:
        """See `Region.write_answer`."""
        return self.region.write_answer(self.mask_slot, picture, "picture")
