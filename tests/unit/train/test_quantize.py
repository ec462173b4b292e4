"""Int8 for CPUs: what is computed in int8 and what is not, what it was calibrated on, and that nothing half stays."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from engines.metadata import ModelMetadata
from engines.registry import open_runner
from humanseg.video import read_rgb
from support.models import write_red_model
from train import quantize
from train.data import find_photos, is_validation

ROOT = Path(__file__).resolve().parent.parent.parent.parent
MEDIUM = ROOT / "engines" / "models" / "medium.onnx"
CLIP = ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of the clip as photos, some upright."""
    folder = tmp_path_factory.mktemp("data")
    for kind in ("images", "masks"):
        (folder / "clip" / kind).mkdir(parents=True)
    for number, picture in enumerate(islice(read_rgb(CLIP), 0, 192, 16)):
        shown = picture[:, 220:440] if number % 3 == 0 else picture
        cv2.imwrite(str(folder / "clip" / "images" / f"{number}.jpg"), shown[..., ::-1])
        cv2.imwrite(str(folder / "clip" / "masks" / f"{number}.png"), np.zeros(shown.shape[:2], np.uint8))
    return folder


@pytest.fixture(scope="module")
def quantized(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "new" / "int8.onnx"
    assert quantize.main(["--model", str(MEDIUM), "--data", str(data), "--out", str(out), "--photos", "4"]) == 0
    return out


def test_photos_kept_for_validation_are_never_calibrated_on(data: Path) -> None:
    photos = find_photos(data)
    assert 0 < sum(map(is_validation, photos)) < len(photos)
    chosen = quantize.choose_photos(photos, 100)
    assert {photo.id for photo in chosen} == {photo.id for photo in photos if not is_validation(photo)}
    assert quantize.choose_photos(photos, 3) == chosen[:3]


def test_it_describes_itself_and_uses_nothing_but_onnx(quantized: Path) -> None:
    found = onnx.load(quantized)
    metadata = ModelMetadata.from_properties({pair.key: pair.value for pair in found.metadata_props})
    source = ModelMetadata.from_properties({pair.key: pair.value for pair in onnx.load(MEDIUM).metadata_props})
    assert metadata == replace(source, name="medium-int8", trained=metadata.trained)
    assert metadata.trained.startswith(f"{source.trained}; int8 by train.quantize on ")
    assert {one.domain for one in found.opset_import} == {""}
    assert [port.name for port in found.graph.input] == ["frames"]


def test_convolutions_are_in_int8_by_channel_and_the_last_one_is_not(quantized: Path) -> None:
    graph = onnx.load(quantized).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    *inner, last = convolutions
    for node in inner:
        values, weights = (makers[name] for name in node.input[:2])
        assert (values.op_type, weights.op_type) == ("DequantizeLinear", "DequantizeLinear"), node.name
        assert tensors[values.input[2]].data_type == onnx.TensorProto.UINT8
        kernel, scales, zeros = (onnx.numpy_helper.to_array(tensors[name]) for name in weights.input)
        assert kernel.dtype == np.int8
        assert scales.shape == (kernel.shape[0],)
        assert not zeros.any()
    assert last.input[1] in tensors
    assert tensors[last.input[1]].data_type == onnx.TensorProto.FLOAT
    assert [node.op_type for node in graph.node if node.name in quantize.tail_of(onnx.load(quantized))].count(
        "Conv"
    ) == 1
    after = graph.node[[node.name for node in graph.node].index(last.name) + 1 :]
    assert not {node.op_type for node in after} & {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino-f32"])
def test_every_cpu_engine_serves_it_near_the_model_in_float32(quantized: Path, data: Path, engine: str) -> None:
    one = open_runner("onnxruntime-cpu", MEDIUM, max_batch=1, concurrency=1)
    other = open_runner(engine, quantized, max_batch=1, concurrency=1)
    for photo in quantize.choose_photos(find_photos(data), 4):
        batch = quantize.network_input(photo, one.info.model)
        expected, seen = one.run(batch), other.run(batch)
        assert expected.max() > 0.9, "no person in the picture"
        assert 0 < np.abs(seen - expected).mean() < quantize.TOLERANCE


def test_a_result_that_is_another_model_is_not_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quantize, "TOLERANCE", 1e-9)
    out = tmp_path / "int8.onnx"
    assert quantize.main(["--model", str(MEDIUM), "--data", str(data), "--out", str(out), "--photos", "2"]) == 1
    assert "int8 differs from" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_quantized_is_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "int8.onnx")
    none, red = tmp_path / "none.onnx", write_red_model(tmp_path / "red.onnx")
    assert quantize.main(["--model", str(none), "--data", str(data), "--out", out]) == 1
    assert f"train.quantize: no model file {none}" in capsys.readouterr().err
    assert quantize.main(["--model", str(red), "--data", str(data), "--out", out]) == 1
    assert "with convolutions" in capsys.readouterr().err
    assert quantize.main(["--model", str(MEDIUM), "--data", str(tmp_path), "--out", out]) == 1
    assert "holds no <source>/images" in capsys.readouterr().err
    assert quantize.main(["--model", str(MEDIUM), "--data", str(data), "--out", str(red / "int8.onnx")]) == 1
    assert capsys.readouterr().err.startswith("train.quantize: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["red.onnx"]
