"""A model and a key that the replicas share."""

from pathlib import Path

import pytest

from support.models import write_red_model


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_red_model(folder / "medium.onnx")
    return folder


@pytest.fixture(scope="session")
def resume_flags(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    key_file = tmp_path_factory.mktemp("keys") / "resume"
    key_file.write_text("0123456789abcdef0123456789abcdef")
    return "--resume-key-file", str(key_file)
