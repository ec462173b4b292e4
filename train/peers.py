"""Other people's segmenters, judged beside ours: TensorFlow Lite files such as MediaPipe's selfie segmentation.

Each with the geometry of its own product: MediaPipe's graph (modules/selfie_segmentation/selfie_segmentation_cpu.pbtxt)
stretches the picture to the input, bilinearly, values 0 to 1, and the mask back; it pads nothing. Its package cannot be
installed beside this project (it holds protobuf below 5), but its wheel carries the files:
``pip download --no-deps mediapipe==0.10.14``, then ``unzip`` *selfie_segmentation.tflite*. Apache-2.0.
"""

from pathlib import Path
from typing import Any

import numpy as np

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, Picture, Size
from train.contestants import Contestant


class PeerError(Exception):
    """A peer that cannot be run here."""


def open_tflite(file: Path) -> Contestant:
    """A TensorFlow Lite file from (1, H, W, 3) float32 RGB in [0, 1] to (1, h, w, 1) float32 alpha, on one thread.

    Raises:
        PeerError: LiteRT is not installed, or the file is missing, no model, or of other shapes.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise PeerError(
            f"{file} needs LiteRT, which is not installed ({error.name}): install `humanseg[peers]`"
        ) from None
    if not file.is_file():
        raise PeerError(f"no file {file}; train/peers.py says where MediaPipe's are")
    try:
        interpreter = Interpreter(str(file), num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise PeerError(f"{file} is not a model that LiteRT can load: {error}") from error
    return Contestant(f"{file.stem} ({file})", _Stretched(file, interpreter).segment)


class _Stretched:
    """An interpreter behind MediaPipe's geometry."""

    def __init__(self, file: Path, interpreter: Any) -> None:
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        seen = [(str(np.dtype(port["dtype"])), tuple(int(side) for side in port["shape"])) for port in inputs + outputs]
        wanted = len(inputs) == len(outputs) == 1 and all(
            kind == "float32" and len(shape) == 4 and shape[0] == 1 and shape[3] == channels
            for (kind, shape), channels in zip(seen, (3, 1), strict=False)
        )
        if not wanted:
            raise PeerError(f"{file} has inputs and outputs {seen}, expected float32 (1, H, W, 3) and (1, h, w, 1)")
        self._interpreter = interpreter
        self._input, self._output = int(inputs[0]["index"]), int(outputs[0]["index"])
        _, height, width, _ = seen[0][1]
        self._size = Size(width, height)

    def segment(self, picture: Picture) -> Alpha:
        """(H, W, 3) uint8 RGB to its alpha."""
        stretched = cv.resize_linear(picture, self._size)
        self._interpreter.set_tensor(self._input, stretched[np.newaxis].astype(np.float32) / np.float32(255))
        self._interpreter.invoke()
        mask: Alpha = self._interpreter.get_tensor(self._output)[0, :, :, 0]
        return np.clip(cv.resize_linear_f32(mask, Size.of(picture)), 0, 1)
