"""Small ONNX models whose answer is known by formula: no trained weights, and tests can compute what is right."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from engines.metadata import ModelMetadata
from humanseg.vision.arrays import Size

LANDSCAPE = Size(160, 96)
UPRIGHT = Size(96, 160)


def write_red_model(
    path: Path,
    *,
    name: str = "medium",
    landscape: Size = LANDSCAPE,
    upright: Size = UPRIGHT,
    properties: dict[str, str] | None = None,
    batch: int | str = "n",
    sides: tuple[int | str, int | str] = ("h", "w"),
    input_type: int = TensorProto.UINT8,
    divisor: float = 255.0,
) -> Path:
    """A model whose alpha is the red channel / 255; everything else about it is as a trained model has it.

    ``properties`` replace its description of itself; ``divisor`` 0 makes it answer NaN, 1 makes it answer logits.
    """
    frames = helper.make_tensor_value_info("frames", input_type, [batch, *sides, 3])
    alpha = helper.make_tensor_value_info("alpha", TensorProto.FLOAT, [batch, *sides])
    nodes = [
        helper.make_node("Cast", ["frames"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["values", "red"], ["channel"], axis=3),
        helper.make_node("Div", ["channel", "full"], ["alpha"]),
    ]
    constants = [
        helper.make_tensor("red", TensorProto.INT64, [], [0]),
        helper.make_tensor("full", TensorProto.FLOAT, [], [divisor]),
    ]
    graph = helper.make_graph(nodes, "red", [frames], [alpha], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if properties is None:
        properties = ModelMetadata(name=name, version="test", landscape=landscape, upright=upright).to_properties()
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_faulty_model(path: Path, *, name: str = "faulty") -> Path:
    """A model that works on dark pictures and fails in the engine when the first pixel's red of any is above 127.

    Gather with an index out of range is refused by ONNX Runtime at run time; everything before it is in order.
    """
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", "h", "w", 3])
    alpha = helper.make_tensor_value_info("alpha", TensorProto.FLOAT, ["n", "h", "w"])
    nodes = [
        helper.make_node("Cast", ["frames"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["values", "zero3", "one3", "axes3"], ["first"]),
        helper.make_node("ReduceMax", ["first"], ["pixel"], keepdims=0),
        helper.make_node("Div", ["pixel", "threshold"], ["scaled"]),
        # 0 while red <= 127, 100 and more above it: no such channel.
        helper.make_node("Floor", ["scaled"], ["step"]),
        helper.make_node("Mul", ["step", "hundred"], ["far"]),
        helper.make_node("Cast", ["far"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["values", "index"], ["channel"], axis=3),
        helper.make_node("Div", ["channel", "full"], ["alpha"]),
    ]
    constants = [
        helper.make_tensor("zero3", TensorProto.INT64, [3], [0, 0, 0]),
        helper.make_tensor("one3", TensorProto.INT64, [3], [1, 1, 1]),
        helper.make_tensor("axes3", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("threshold", TensorProto.FLOAT, [], [128.0]),
        helper.make_tensor("hundred", TensorProto.FLOAT, [], [100.0]),
        helper.make_tensor("full", TensorProto.FLOAT, [], [255.0]),
    ]
    graph = helper.make_graph(nodes, "faulty", [frames], [alpha], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    properties = ModelMetadata(name=name, version="test", landscape=LANDSCAPE, upright=UPRIGHT).to_properties()
    helper.set_model_props(model, properties)
    onnx.save(model, path)
    return path


def write_slow_model(path: Path, *, name: str = "slow", side: int = 1300) -> Path:
    """The red model, but each frame first costs the product of two square matrices of ``side``: some tens of ms."""
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", "h", "w", 3])
    alpha = helper.make_tensor_value_info("alpha", TensorProto.FLOAT, ["n", "h", "w"])
    nodes = [
        helper.make_node("Cast", ["frames"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["values", "red"], ["channel"], axis=3),
        helper.make_node("Div", ["channel", "full"], ["mask"]),
        # Made from the frame, so that it cannot be computed beforehand; what comes of it counts nothing.
        helper.make_node("ReduceMean", ["mask"], ["level"], keepdims=0),
        helper.make_node("Expand", ["level", "shape"], ["matrix"]),
        helper.make_node("MatMul", ["matrix", "matrix"], ["product"]),
        helper.make_node("ReduceMean", ["product"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["mask", "nothing"], ["alpha"]),
    ]
    constants = [
        helper.make_tensor("red", TensorProto.INT64, [], [0]),
        helper.make_tensor("full", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("shape", TensorProto.INT64, [2], [side, side]),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
    ]
    graph = helper.make_graph(nodes, "slow", [frames], [alpha], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    properties = ModelMetadata(name=name, version="test", landscape=LANDSCAPE, upright=UPRIGHT).to_properties()
    helper.set_model_props(model, properties)
    onnx.save(model, path)
    return path
