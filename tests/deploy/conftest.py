"""What several tests of the deployment start from."""

from pathlib import Path

import pytest

from support.manifests import Manifests, render
from support.models import write_red_model


@pytest.fixture(scope="session")
def cpu() -> Manifests:
    return Manifests(render("overlays/cpu"))


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_red_model(folder / "medium.onnx")
    return folder
