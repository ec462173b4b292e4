"""The same network with nothing around it but the letterbox: ONNX Runtime or OpenVINO called from one's own program."""

from pathlib import Path

from benchmarks.bare import find_model
from benchmarks.peers.peer import Peer, PeerUnavailableError
from engines.registry import warm_up
from engines.runner import EngineError
from humanseg.vision.arrays import Alpha, Picture
from train.validation import letterboxed


class BareEngine(Peer):
    """One model on one engine, one thread, one picture at a time."""

    def __init__(self, models: Path, model: str, engine: str) -> None:
        """Raises `PeerUnavailableError` where model or engine cannot be had."""
        try:
            self.runner = find_model(models, model, engine, threads=1)
            warm_up(self.runner)
        except EngineError as error:
            raise PeerUnavailableError(str(error)) from None
        metadata = self.runner.info.model
        self._segment = letterboxed(self.runner.run, metadata.landscape, metadata.upright)

    def segment(self, picture: Picture) -> Alpha:
        """Through the service's own letterbox, there and back."""
        return self._segment(picture)

    def close(self) -> None:
        """Free the engine."""
        self.runner.close()
