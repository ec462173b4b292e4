"""The same network with the post-processing that PaddleSeg publishes for video, as restated in humanseg.vision.

`humanseg.vision.temporal_alternatives` says what it does and which mistakes of the original stay in. Photos have no
past: there its accuracy is that of the bare engine.
"""

from pathlib import Path

import numpy as np

from benchmarks.peers.bare_engine import BareEngine
from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, Picture, Size
from humanseg.vision.letterbox import choose_canvas, letterbox, restore
from humanseg.vision.temporal_alternatives import Alternative, AlternativeState, apply


class PaddleSmoothing(BareEngine):
    """ONNX Runtime and PP-HumanSeg's fusion along rounded optical flow."""

    def __init__(self, models: Path, model: str, engine: str) -> None:
        """As `BareEngine`."""
        super().__init__(models, model, engine)
        self._state = AlternativeState()

    def follow(self, picture: Picture, capture_time_us: int) -> Alpha:
        """Smooth at network size, then bring the mask back onto the frame."""
        metadata = self.runner.info.model
        canvas = choose_canvas(Size.of(picture), metadata.landscape, metadata.upright)
        network_input, placement = letterbox(picture, canvas)
        alpha = self.runner.run(network_input[np.newaxis])[0]
        gray = cv.rgb_to_gray(network_input)
        return restore(apply(Alternative.REFERENCE, self._state, gray, alpha, capture_time_us), placement)
