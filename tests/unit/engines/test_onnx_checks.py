"""What NVIDIA's parser would let through is refused before: by file, by check, with the mend."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from engines.metadata import ModelMetadata
from engines.onnx_checks import OnnxCheckError, check_model_file
from engines.plan import Precision
from support.models import LANDSCAPE, UPRIGHT, write_red_model


def refusal(path: Path) -> OnnxCheckError:
    with pytest.raises(OnnxCheckError) as caught:
        check_model_file(path)
    assert str(caught.value).startswith(f"{path} failed the check of its {caught.value.check}: ")
    return caught.value


def changed(tmp_path: Path, change: Callable[[ModelProto], object]) -> Path:
    path = write_red_model(tmp_path / "red.onnx")
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_model_in_order(tmp_path: Path) -> None:
    path = write_red_model(tmp_path / "red.onnx")
    checked = check_model_file(path)
    assert checked.content == path.read_bytes()
    assert checked.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (checked.metadata.landscape, checked.metadata.upright) == (LANDSCAPE, UPRIGHT)
    assert checked.precision is Precision.FP32


@pytest.mark.parametrize(
    ("content", "check", "text"),
    [
        (None, "file", "there is no such file; see engines/models/README.md"),
        (b"", "file", "it has 0 bytes"),
        (b"this is text and no model\n" * 9, "form", "it is no ONNX file, or cut off; export it again"),
        (b"\x08\x09", "form", "it holds no graph"),
    ],
)
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes | None, check: str, text: str) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    error = refusal(path)
    assert error.check == check
    assert text in str(error)


@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off(tmp_path: Path, part: float) -> None:
    path = write_red_model(tmp_path / "red.onnx")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    assert refusal(path).check == "form"


def set_opset(version: int) -> Callable[[ModelProto], object]:
    return lambda model: setattr(model.opset_import[0], "version", version)


def foreign_domain(model: ModelProto) -> None:
    model.graph.node[2].domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def undeclared_domain(model: ModelProto) -> None:
    model.graph.node[2].domain = "org.example"


def unknown_operator(model: ModelProto) -> None:
    model.graph.node[2].op_type = "Divide"


def missing_edge(model: ModelProto) -> None:
    model.graph.node[2].input[0] = "nowhere"


def put_nan(model: ModelProto) -> None:
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array(np.nan, np.float32), "full"))


def put_half_infinity(model: ModelProto) -> None:
    values = numpy_helper.from_array(np.array([1, np.inf, -np.inf], np.float16), "values16")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["values16"], value=values))


def put_outside(model: ModelProto) -> None:
    tensor = model.graph.initializer[1]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("float_data")
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="../../etc/passwd"))


def drop_metadata(model: ModelProto) -> None:
    del model.metadata_props[:]


def swap_canvases(model: ModelProto) -> None:
    properties = ModelMetadata("m", "1", LANDSCAPE, UPRIGHT).to_properties()
    helper.set_model_props(model, properties | {"humanseg.landscape": str(UPRIGHT), "humanseg.upright": str(LANDSCAPE)})


def fix_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def fix_output_batch(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2


def fix_height(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64


def drop_rank(model: ModelProto) -> None:
    del model.graph.node[1:]
    model.graph.node.append(helper.make_node("ReduceMax", ["values"], ["alpha"], keepdims=0))
    del model.graph.output[0].type.tensor_type.shape.dim[:]


def second_input(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["n"]))


def quantize(model: ModelProto) -> None:
    constants = [helper.make_tensor("scale", TensorProto.FLOAT, [], [1 / 255])]
    model.graph.initializer.extend(constants)
    model.graph.node[2].output[0] = "exact"
    model.graph.node.append(helper.make_node("QuantizeLinear", ["exact", "scale"], ["coarse"]))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["coarse", "scale"], ["alpha"]))


@pytest.mark.parametrize(
    ("change", "check", "text"),
    [
        (set_opset(99), "opset", "it is 99, allowed are 13 to 24"),
        (set_opset(9), "opset", "it is 9, allowed are 13 to 24"),
        (foreign_domain, "domains", "it uses com.microsoft, allowed is ONNX's own"),
        (undeclared_domain, "domains", "it uses org.example"),
        (unknown_operator, "form", "onnx.checker says 'No Op registered for Divide"),
        (missing_edge, "form", "onnx.checker says"),
        (put_nan, "constants", "full holds NaN or infinity in 1 of 1 places; the training went astray"),
        (put_half_infinity, "constants", "values16 holds NaN or infinity in 2 of 3 places"),
        (put_outside, "constants", "full lies in another file, which the hash would not cover; save it as one file"),
        (drop_metadata, "metadata", "the ONNX metadata lacks humanseg.channels"),
        (swap_canvases, "metadata", "are swapped"),
        (fix_batch, "shapes", r"input frames is uint8 (2, h, w, 3), expected uint8 (batch, H, W, 3)"),
        (fix_height, "shapes", "with a dynamic batch and room for 160x96 and 96x160"),
        (fix_output_batch, "shapes", "output alpha has a fixed batch of 2"),
        (drop_rank, "shapes", "output alpha is float32 (), expected float32 (batch, H, W)"),
        (second_input, "shapes", "has 2 inputs and 1 outputs, expected one of each"),
        (quantize, "operators", "it is quantized for CPUs (DequantizeLinear, QuantizeLinear); build from the file in"),
    ],
)
def test_what_is_wrong_with_a_model(
    tmp_path: Path, change: Callable[[ModelProto], object], check: str, text: str
) -> None:
    error = refusal(changed(tmp_path, change))
    assert (error.check, text in str(error)) == (check, True), str(error)


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    assert "there is no such file" in str(refusal(tmp_path))
