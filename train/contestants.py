"""Segmenters from files: model files with our metadata, behind the engine that serves them."""

from dataclasses import dataclass
from pathlib import Path

from engines.registry import DEFAULT_ENGINE, open_runner
from train.validation import Segmenter, letterboxed


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something that segments, and what it is called in tables."""

    name: str
    segment: Segmenter


def open_model(file: Path) -> Contestant:
    """An ONNX file with our metadata, on one thread.

    Raises:
        EngineError: the file cannot be served.
    """
    runner = open_runner(DEFAULT_ENGINE, file, max_batch=1, concurrency=1)
    model = runner.info.model
    return Contestant(f"{model.name} {model.version} ({file})", letterboxed(runner.run, model.landscape, model.upright))
