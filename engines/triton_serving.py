"""How Triton is to serve our models: what `engines.repository` is told."""

from dataclasses import dataclass
from enum import StrEnum


class Backend(StrEnum):
    """What runs a model inside Triton."""

    PYTHON = "python"
    """`engines.triton_python_model` and ONNX Runtime, on CPUs."""
    ONNXRUNTIME = "onnxruntime"
    """Triton's own ONNX Runtime backend."""
    TENSORRT = "tensorrt"
    """A TensorRT plan, built on the GPU's machine by the script that is written beside it."""


class Device(StrEnum):
    """Where a model's instances run."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """How Triton is to serve the models."""

    backend: Backend
    device: Device
    max_batch: int
    preferred_batches: tuple[int, ...]
    """Sizes that the batcher sends off at once; empty: whatever waits when an instance is free."""
    queue_delay_us: int
    """How long a request may wait for others while an instance is free."""
    instances: int
    """Copies of a model, on each GPU where it is for GPUs."""
    threads: int
    """CPU threads of a copy, where ONNX Runtime runs on CPUs."""
