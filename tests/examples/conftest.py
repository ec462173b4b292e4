"""One server with a model whose masks are known (alpha is the red channel) for the tests of a module."""

from collections.abc import Iterator

import pytest

from support.models import write_red_model
from support.server import RunningServer, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    write_red_model(folder / "medium.onnx")
    with running_server(folder) as running:
        yield running
