"""Who takes part: a name, what a user would have to do, and how to open it. A new peer is a file and a line here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.peers.bare_engine import BareEngine
from benchmarks.peers.own_service import OwnService
from benchmarks.peers.paddle_smoothing import PaddleSmoothing
from benchmarks.peers.peer import Peer
from benchmarks.peers.tflite import TfLite
from benchmarks.peers.triton_server import TritonServer
from engines.registry import DEFAULT_ENGINE, ENGINES
from humanseg.options import TemporalFusion


@dataclass(frozen=True, slots=True)
class Contestant:
    """A peer that is not open yet."""

    name: str
    how: str
    open: Callable[[], Peer]
    """Raises `PeerUnavailableError`."""


def contestants(models: Path, model: str, tflite: Sequence[Path], triton: str | None) -> list[Contestant]:
    """All that can be named here, whether or not they can be run."""
    found = [
        Contestant(
            f"service, fusion {fusion.name.lower()}",
            "gRPC stream to a server on the same machine",
            partial(OwnService, models, model, DEFAULT_ENGINE, fusion),
        )
        for fusion in (TemporalFusion.OFF, TemporalFusion.HIGH)
    ]
    found += [
        Contestant(
            f"bare {engine}", "the engine called in one's own program", partial(BareEngine, models, model, engine)
        )
        for engine in ENGINES
    ]
    found.append(
        Contestant(
            "PaddleSeg smoothing",
            f"bare {DEFAULT_ENGINE}, then PP-HumanSeg's published fusion over time",
            partial(PaddleSmoothing, models, model, DEFAULT_ENGINE),
        )
    )
    if triton:
        how = f"{model} on a Triton Inference Server at {triton}, one call of its client a frame"
        found.append(Contestant("Triton", how, partial(TritonServer, triton, models, model)))
    found += [Contestant(f"MediaPipe {file.stem}", "LiteRT, frame by frame", partial(TfLite, file)) for file in tflite]
    return found
