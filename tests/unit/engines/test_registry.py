"""Engines by name, and what a model file must be before it is served."""

from pathlib import Path

import pytest
from onnx import TensorProto

from engines.metadata import ModelMetadata
from engines.registry import DEFAULT_ENGINE, open_runner, warm_up
from engines.runner import EngineFailedError, EngineUnavailableError, ModelFileError
from service.models import open_models
from support.models import LANDSCAPE, UPRIGHT, write_red_model

SWAPPED = {
    **ModelMetadata(name="m", version="1", landscape=LANDSCAPE, upright=UPRIGHT).to_properties(),
    "humanseg.landscape": str(UPRIGHT),
    "humanseg.upright": str(LANDSCAPE),
}


#: bfloat16 needs a CPU that has it; the rest of its way is that of float32.
ENGINE = pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino-f32"])


def test_an_unknown_engine_names_those_there_are() -> None:
    with pytest.raises(EngineUnavailableError, match=r"unknown engine 'gpu', known are .*onnxruntime-cpu"):
        open_runner("gpu", Path("any.onnx"), max_batch=1, concurrency=1)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        pytest.param({"properties": {}}, "lacks humanseg.channels", id="no metadata"),
        pytest.param({"properties": SWAPPED}, "are swapped", id="swapped sizes"),
        pytest.param({"batch": 1}, r"expected uint8 \(batch, H, W, 3\)", id="fixed batch"),
        pytest.param({"sides": (100, 160)}, "with a dynamic batch and room for 160x96 and 96x160", id="fixed sides"),
        pytest.param({"input_type": TensorProto.FLOAT}, r"is float32 .* expected uint8", id="float"),
    ],
)  # fmt: skip
@ENGINE
def test_a_model_that_does_not_fit_is_refused_with_the_reason(
    tmp_path: Path, engine: str, changes: dict[str, object], text: str
) -> None:
    path = write_red_model(tmp_path / "m.onnx", **changes)  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match=text) as caught:
        open_runner(engine, path, max_batch=1, concurrency=1)
    assert str(path) in str(caught.value)


@ENGINE
@pytest.mark.parametrize("content", [b"not a model", b"", None])
def test_a_file_that_is_no_model(tmp_path: Path, engine: str, content: bytes | None) -> None:
    whole = write_red_model(tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ModelFileError, match=r"m.onnx is not a model that (ONNX Runtime|OpenVINO) .* can load"):
        open_runner(engine, tmp_path / "m.onnx", max_batch=1, concurrency=1)
    with pytest.raises(ModelFileError, match="no model file"):
        open_runner(engine, tmp_path / "none.onnx", max_batch=1, concurrency=1)


def test_a_model_that_answers_nan_is_found_at_warm_up(tmp_path: Path) -> None:
    runner = open_runner(DEFAULT_ENGINE, write_red_model(tmp_path / "m.onnx", divisor=0.0), max_batch=1, concurrency=1)
    with pytest.raises(
        EngineFailedError, match=r"answers values from nan to nan .* expected float32 .* within 0 and 1"
    ):
        warm_up(runner)


def catalog_of(folder: Path, default: str = "medium") -> object:
    return open_models(folder, engine=DEFAULT_ENGINE, default=default, max_batch=2, concurrency=1)


def test_a_folder_is_served_with_the_default_first(tmp_path: Path) -> None:
    for name in ("large", "medium", "small"):
        write_red_model(tmp_path / f"{name}.onnx", name=name)
    catalog = open_models(tmp_path, engine=DEFAULT_ENGINE, default="medium", max_batch=2, concurrency=3)
    assert catalog.names == ("medium", "large", "small")
    assert catalog.default == "medium"
    assert [info.concurrency for info in catalog.infos] == [3, 3, 3]
    catalog.close()


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no \*\.onnx in .*set --models"):
        catalog_of(tmp_path)


def test_two_files_of_the_same_name(tmp_path: Path) -> None:
    first, second = (write_red_model(tmp_path / f"{letter}.onnx") for letter in "ab")
    with pytest.raises(ModelFileError, match="both call themselves 'medium'; remove one") as caught:
        catalog_of(tmp_path)
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


def test_a_default_that_is_not_there(tmp_path: Path) -> None:
    write_red_model(tmp_path / "m.onnx", name="small")
    with pytest.raises(ModelFileError, match=r"default model 'medium' is not among the models found \(small\)"):
        catalog_of(tmp_path)


def test_one_bad_file_keeps_the_server_from_starting(tmp_path: Path) -> None:
    write_red_model(tmp_path / "good.onnx")
    write_red_model(tmp_path / "bad.onnx", name="bad", divisor=0.0)
    with pytest.raises(EngineFailedError, match=r"bad\.onnx answers"):
        catalog_of(tmp_path)
