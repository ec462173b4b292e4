"""Shared memory with a Triton on this host: a batch goes in, its alphas come out, and the messages carry neither.

Each call has a region for itself: Triton reads the batch at its beginning and writes the alphas behind it. After a call
that failed the region is never used again, since Triton may still write to it, over somebody else's alphas.
As in `humanseg.shared_memory` nothing is mapped on our side, and the file has no name once Triton has it.
"""

import contextlib
import os
import secrets
import threading

import numpy as np

from engines.runner import EngineFailedError
from humanseg.shared_memory import FOLDER, NAME_PREFIX, create_object, read_whole, write_whole
from humanseg.vision.arrays import AlphaBatch, Batch

_ALPHA_BYTES = np.dtype(np.float32).itemsize


class TensorRegion:
    """A region for one call at a time."""

    def __init__(self, batch_bytes: int, alpha_bytes: int) -> None:
        """Make it, of so many bytes for the largest batch and its alphas.

        Raises:
            OSError: the system has no room for it.
        """
        self.name = f"{NAME_PREFIX}triton-{os.getpid()}-{secrets.token_hex(8)}"
        self.size_bytes = batch_bytes + alpha_bytes
        self.alpha_offset_bytes = batch_bytes
        self._path = FOLDER / self.name
        self._descriptor = create_object(self._path, self.size_bytes)

    @property
    def key(self) -> str:
        """As ``shm_open`` takes it."""
        return f"/{self.name}"

    def write(self, batch: Batch) -> None:
        """Put a batch where Triton reads it."""
        write_whole(self._descriptor, batch.data.cast("B"), 0)

    def read(self, shape: tuple[int, ...]) -> AlphaBatch:
        """The alphas that Triton has written, a copy."""
        alpha = np.empty(shape, np.float32)
        read_whole(self._descriptor, alpha.data.cast("B"), self.alpha_offset_bytes)
        return alpha

    def unlink(self) -> None:
        """Take the name away: Triton has it open, and nothing is left of it when both are gone."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def close(self) -> None:
        """Let go of it."""
        self.unlink()
        os.close(self._descriptor)


class RegionPool:
    """The regions for one model at one address, over all connections to it. Several threads may use it."""

    def __init__(self, largest_batch_bytes: int, largest_alpha_bytes: int) -> None:
        self._batch_bytes = largest_batch_bytes
        self._alpha_bytes = largest_alpha_bytes
        self._lock = threading.Lock()
        self._free: list[TensorRegion] = []
        self._retired: list[str] = []
        self._closed = False

    @classmethod
    def for_pictures(cls, max_batch: int, largest_px: int, channels: int) -> "RegionPool":
        """Regions for batches of pictures of at most so many pixels."""
        return cls(max_batch * largest_px * channels, max_batch * largest_px * _ALPHA_BYTES)

    @property
    def is_closed(self) -> bool:
        """Whether what is given back has to be unregistered at once: nobody else will."""
        return self._closed

    def take(self) -> TensorRegion | None:
        """One that Triton has, if there is one free."""
        with self._lock:
            return self._free.pop() if self._free else None

    def make(self) -> TensorRegion:
        """A new one, which Triton has yet to be told of.

        Raises:
            EngineFailedError: there is no room for it.
        """
        try:
            return TensorRegion(self._batch_bytes, self._alpha_bytes)
        except OSError as error:
            raise EngineFailedError(
                f"no shared memory for a batch to Triton ({self._batch_bytes + self._alpha_bytes} bytes in {FOLDER}):"
                f" {error.strerror}; give the container a larger {FOLDER}, lower --max-batch, or leave out"
                " --triton-shared-memory"
            ) from error

    def give_back(self, region: TensorRegion) -> None:
        """The call was answered: the next one may have it."""
        with self._lock:
            if not self._closed:
                self._free.append(region)
                return
        self.discard(region)

    def discard(self, region: TensorRegion) -> None:
        """The call was not answered, or the runner is closed; Triton is told by who asks for `retired`."""
        region.close()
        with self._lock:
            self._retired.append(region.name)

    def retired(self) -> list[str]:
        """Names that Triton may still have registered."""
        with self._lock:
            return [*self._retired]

    def forget(self, name: str) -> None:
        """Triton has it no more."""
        with self._lock:
            if name in self._retired:
                self._retired.remove(name)

    def close(self) -> None:
        """Retire what is free; what is in use is when it is given back."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for region in free:
            self.discard(region)
