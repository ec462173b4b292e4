"""Half precision: the same masks, uint8 in and float32 out, and an overflow is seen although CPUs have none."""

from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from engines.half import HalfError, main, to_half
from engines.half_emulation import compare, emulated
from engines.onnx_checks import check_model_file, precision_of
from engines.plan import Precision
from humanseg.video import read_rgb
from humanseg.vision.arrays import Size
from humanseg.vision.letterbox import letterbox
from support.models import write_red_model

ROOT = Path(__file__).resolve().parent.parent.parent.parent
MEDIUM = ROOT / "engines" / "models" / "medium.onnx"
CLIP = ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture(scope="module")
def medium() -> ModelProto:
    return check_model_file(MEDIUM).model


@pytest.fixture(scope="module")
def medium_half(medium: ModelProto) -> ModelProto:
    return to_half(medium).model


def frames(canvas: Size) -> NDArray[np.uint8]:
    return np.stack([letterbox(picture, canvas)[0] for picture in islice(read_rgb(CLIP), 0, 160, 80)])


def small_model(first: float = 1000.0, second: float = 0.001, middle: str = "Relu") -> ModelProto:
    """Two 1x1 convolutions with a node between, (n, 1, h, w) to the same."""
    shape = ["n", 1, "h", "w"]
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"]),
        helper.make_node(middle, ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.full((1, 1, 1, 1), value, np.float32), name)
        for name, value in (("first", first), ("second", second))
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, shape)], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: ModelProto, batch: NDArray[np.generic]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: batch})
    return np.asarray(answer, np.float32)


def test_what_is_half_and_what_is_not(medium: ModelProto, medium_half: ModelProto) -> None:
    converted = to_half(medium)
    assert converted.half.keys() == {"Conv", "Clip", "Add", "Concat", "Resize"}
    assert converted.kept.keys() == {"Cast", "Sub", "Div", "Transpose", "Resize", "Squeeze", "Sigmoid"}
    assert converted.kept["Resize"] == 1  # the last one, behind the network
    inferred = onnx.shape_inference.infer_shapes(medium_half, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    for node in medium_half.graph.node:
        if node.op_type == "Conv":
            assert types[node.output[0]] == HALF, node.name
    assert [value.type.tensor_type.elem_type for value in inferred.input] == [TensorProto.UINT8]
    assert [value.type.tensor_type.elem_type for value in inferred.output] == [FLOAT]
    assert precision_of(medium) is Precision.FP32
    assert precision_of(medium_half) is Precision.FP16


@pytest.mark.parametrize("canvas", [Size(320, 192), Size(192, 320)])
def test_parity_of_the_shipped_model_as_a_cpu_runs_it(
    medium: ModelProto, medium_half: ModelProto, canvas: Size
) -> None:
    batch = frames(canvas)
    expected = run(medium, batch)
    assert expected.max() > 0.9, "no person in the picture"
    assert 0 < np.abs(run(medium_half, batch) - expected).mean() < 0.01


def test_parity_with_every_value_rounded_on_photos_and_on_extremes(medium: ModelProto, medium_half: ModelProto) -> None:
    """As a GPU would store them. A black picture is the worst found: 0.008 of the 0.01 allowed."""
    assert compare(medium, medium_half, [frames(Size(320, 192))]).mean < 0.001
    noise = np.random.default_rng(0).integers(0, 256, (1, 320, 192, 3), dtype=np.uint8)
    for batch in (np.zeros_like(noise), np.full_like(noise, 255), noise):
        assert compare(medium, medium_half, [batch]).mean < 0.01


def test_an_overflow_is_seen_although_the_cpu_has_none() -> None:
    model = small_model()
    half = to_half(model).model
    batch = np.full((1, 1, 2, 2), 1000.0, np.float32)
    assert np.isfinite(run(half, batch)).all(), "ONNX Runtime rounds now: the emulation is no longer needed"
    parity = compare(model, half, [batch - 999.0])
    assert parity.mean < 1e-3
    values = ort.InferenceSession(emulated(half).SerializeToString()).run(None, {"x": batch})[0]
    assert (values == 1).all()  # the sigmoid of infinity
    # Infinity times zero is NaN, and NaN must not pass for parity.
    model = small_model(second=0.0, middle="Identity")
    assert not compare(model, to_half(model).model, [batch]).mean < 0.01


def test_sums_over_the_picture_and_what_is_unknown_stay_in_float32() -> None:
    converted = to_half(small_model(first=2.0, middle="Softmax"))
    assert converted.kept == {"Softmax": 1, "Sigmoid": 1}
    assert converted.casts == 4
    batch = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4)
    np.testing.assert_allclose(
        run(converted.model, batch), run(small_model(first=2.0, middle="Softmax"), batch), atol=1e-3
    )


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (small_model(first=1e6), "weight first reaches 1e\\+06, half precision ends at 65504; serve it in fp32"),
        (to_half(small_model()).model, "is in half precision already"),
    ],
)
def test_what_cannot_be_converted(model: ModelProto, text: str) -> None:
    with pytest.raises(HalfError, match=text):
        to_half(model)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "half.onnx"
    assert main([str(MEDIUM), str(out)]) == 0
    assert "6.1 MB, in half precision 9 Add, 43 Clip, 4 Concat, 66 Conv" in capsys.readouterr().out
    checked = check_model_file(out)
    assert checked.precision is Precision.FP16
    assert checked.metadata == check_model_file(MEDIUM).metadata
    assert [path.name for path in out.parent.iterdir()] == ["half.onnx"]
    assert main([str(out), str(tmp_path / "again.onnx")]) == 1
    assert "is in half precision already" in capsys.readouterr().err
    assert main([str(MEDIUM), "/proc/none/half.onnx"]) == 1
    assert "/proc/none/half.onnx cannot be written: No such file" in capsys.readouterr().err


def test_a_model_without_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_red_model(tmp_path / "red.onnx")), str(tmp_path / "out.onnx")]) == 1
    assert "the model has none of Conv, ConvTranspose, Gemm, MatMul" in capsys.readouterr().err
    assert not (tmp_path / "out.onnx").exists()
