"""One server with small models for the tests of a module; tests that break servers start their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.models import write_faulty_model, write_red_model
from support.server import RunningServer, running_server


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_red_model(folder / "medium.onnx")
    write_faulty_model(folder / "faulty.onnx")
    return folder


@pytest.fixture(scope="module")
def server(models_folder: Path) -> Iterator[RunningServer]:
    with running_server(models_folder) as running:
        yield running
