"""The contract of every engine: a batch of network inputs in, alphas out.

A *runner* is an open engine: one model, loaded and warm, on one device. It keeps no memory of earlier batches; what a
session remembers lives in the service.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from engines.metadata import ModelMetadata
from humanseg.vision.arrays import AlphaBatch, Batch


class EngineError(Exception):
    """Something is wrong with an engine; the message says what, with which value, and how to mend it."""


class EngineUnavailableError(EngineError):
    """This engine cannot run here: a package, a driver or a device is missing. Nothing falls back in its place."""


class ModelFileError(EngineError):
    """The model file is missing, damaged, or does not describe itself."""


class BatchError(EngineError, ValueError):
    """The caller's batch has a dtype, shape or length that the runner does not take."""


class EngineFailedError(EngineError):
    """The engine failed on a batch that was in order."""


class EngineLostError(EngineFailedError):
    """The engine failed for good: no later batch can succeed before the service is started again."""


#: By how much an alpha may leave [0, 1]: bilinear weights do not sum to exactly one.
ALPHA_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class RunnerInfo:
    """What an open runner is."""

    engine: str
    """Name of the engine as in the registry, for example ``onnxruntime-cpu``."""
    model: ModelMetadata
    path: Path
    max_batch: int
    """Largest batch that one run takes."""
    preferred_batch: int
    """Batch beyond which frames per second no longer grow worth the wait; 1 on CPUs (measured, docs/design.md)."""
    concurrency: int
    """How many threads may usefully call `Runner.run` at once."""
    own_threads: bool = False
    """Whether the engine computes in threads of its own: the caller's CPU time then says nothing of its cost."""
    device: str = "CPU"
    """Where it computes, for people: ``CPU``, ``GPU 0 NVIDIA L4 (compute capability 8.9), CUDA graph``."""


class Runner(Protocol):
    """An open engine. `run` may be called from several threads at once."""

    @property
    def info(self) -> RunnerInfo:
        """What this runner is."""
        ...

    def run(self, batch: Batch) -> AlphaBatch:
        """Segment a batch.

        Args:
            batch: (N, H, W, C) uint8, C-contiguous, N in 1..max_batch, (H, W) one of the model's canvases.

        Returns:
            (N, H, W) float32 alpha in [0, 1], the caller's own.

        Raises:
            BatchError: dtype, shape or length is not acceptable.
            EngineFailedError: the engine failed, or answered something that is no alpha.
        """
        ...

    def close(self) -> None:
        """Free the device. Closing twice is allowed; running after it raises `EngineFailedError`."""
        ...


@runtime_checkable
class RemoteRunner(Runner, Protocol):
    """A runner whose models run elsewhere: it stays open while nobody serves it, and works again once somebody does."""

    def lacking(self) -> str | None:
        """Why nothing can be run now, without waiting for anything; None: something can."""
        ...


def check_batch(info: RunnerInfo, batch: Batch) -> None:
    """Hold a batch against the contract of `Runner.run`, the same for every engine.

    Raises:
        BatchError: naming what was seen and what is allowed.
    """
    canvases = ", ".join(str(canvas) for canvas in info.model.canvases)
    allowed = f"(1..{info.max_batch}, H, W, {info.model.channels}) uint8 with W x H one of {canvases}"
    if batch.dtype != "uint8" or batch.ndim != 4:
        raise BatchError(f"batch of {batch.dtype} {batch.shape} for model {info.model.name}, expected {allowed}")
    count, height, width, channels = batch.shape
    fits = any((width, height) == canvas for canvas in info.model.canvases)
    if not (1 <= count <= info.max_batch and channels == info.model.channels and fits):
        raise BatchError(f"batch of shape {batch.shape} for model {info.model.name}, expected {allowed}")
    if not batch.flags.c_contiguous:
        raise BatchError(f"batch for model {info.model.name} is not C-contiguous; use np.ascontiguousarray")


def check_alpha(info: RunnerInfo, batch: Batch, alpha: AlphaBatch) -> None:
    """Hold an engine's answer against the contract of `Runner.run`: NaN or logits must not pass for a mask.

    0.02 ms a frame at 320x192.

    Raises:
        EngineFailedError: naming what came out and what is expected.
    """
    wanted = batch.shape[:3]
    if alpha.shape != wanted or alpha.dtype != np.float32:
        seen = f"{alpha.dtype} {alpha.shape}"
    else:
        low, high = float(alpha.min()), float(alpha.max())
        if low >= -ALPHA_TOLERANCE and high <= 1 + ALPHA_TOLERANCE:
            return
        seen = f"values from {low:g} to {high:g}"
    raise EngineFailedError(
        f"{info.path} answers {seen} to a batch of {batch.shape}, expected float32 {wanted} within 0 and 1"
    )
