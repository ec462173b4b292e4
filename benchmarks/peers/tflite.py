"""MediaPipe's selfie segmentation on its own runtime, frame by frame; the wrapper is the one that evaluation uses."""

from pathlib import Path

from benchmarks.peers.peer import Peer, PeerUnavailableError
from humanseg.vision.arrays import Alpha, Picture
from train.peers import PeerError, open_tflite


class TfLite(Peer):
    """A TensorFlow Lite file behind MediaPipe's geometry, on one thread."""

    def __init__(self, file: Path) -> None:
        """Raises `PeerUnavailableError` where LiteRT or the file cannot be had."""
        try:
            self._segment = open_tflite(file).segment
        except PeerError as error:
            raise PeerUnavailableError(str(error)) from None

    def segment(self, picture: Picture) -> Alpha:
        """Stretched to the network's input, and the mask back, as MediaPipe does."""
        return self._segment(picture)
