"""What a model's graph must look like from outside, whichever engine has read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.metadata import ModelMetadata
from engines.runner import ModelFileError


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph."""

    name: str
    dtype: str
    """As numpy names it, or in the engine's own words where numpy has none."""
    shape: Sequence[int | str | None]
    """A dimension that is free is None or a name."""


def check_graph(path: Path, metadata: ModelMetadata, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Hold a graph against its metadata: uint8 (N, H, W, C) in, float32 (N, H, W) out, N free.

    Raises:
        ModelFileError: naming what was seen and what is expected.
    """
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelFileError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs, expected one of each")
    frames, alpha = inputs[0], outputs[0]
    if frames.dtype != "uint8" or not _takes(frames.shape, metadata):
        raise ModelFileError(
            f"{path}: input {frames.name} is {frames.dtype} {_form(frames.shape)}, expected uint8"
            f" (batch, H, W, {metadata.channels}) with a dynamic batch and room for"
            f" {' and '.join(str(canvas) for canvas in metadata.canvases)}"
        )
    if alpha.dtype != "float32" or len(alpha.shape) != 3:
        raise ModelFileError(
            f"{path}: output {alpha.name} is {alpha.dtype} {_form(alpha.shape)}, expected float32 (batch, H, W)"
        )


def _takes(shape: Sequence[int | str | None], metadata: ModelMetadata) -> bool:
    if len(shape) != 4 or isinstance(shape[0], int) or shape[3] != metadata.channels:
        return False
    return all(
        not isinstance(declared, int) or declared == wanted
        for canvas in metadata.canvases
        for declared, wanted in zip(shape[1:3], canvas.shape, strict=True)
    )


def _form(shape: Sequence[int | str | None]) -> str:
    return f"({', '.join('?' if side is None else str(side) for side in shape)})"
