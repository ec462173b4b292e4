"""What half precision does to a network, computed on a CPU.

ONNX Runtime's CPU provider has no half-precision convolution. It computes in float32 and takes out the casts that it
put between two nodes, so that nothing is rounded and nothing overflows there: 1000 * 1000 stays a million, where a GPU
has infinity. Here every value that is in half precision in the file is rounded to it, by casts of our own, which ONNX
Runtime leaves alone without graph optimization.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto, helper

from humanseg.vision.arrays import Batch


@dataclass(frozen=True, slots=True)
class HalfParity:
    """How far half precision is from float32, over some batches; NaN where it overflowed."""

    mean: float
    """Mean absolute difference of alpha."""
    largest: float


def emulated(model: ModelProto) -> ModelProto:
    """A model in half precision with every half value rounded between nodes that compute in float32."""
    values = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    half = {value.name for value in values.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT16} | {
        tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16
    }
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        changed = NodeProto()
        changed.CopyFrom(node)
        if node.op_type == "Cast":  # into half or out of it, as it stands
            nodes.append(changed)
            continue
        for place, name in enumerate(node.input):
            if name in half:
                changed.input[place] = f"{name}/{len(nodes)}/wide"
                nodes.append(helper.make_node("Cast", [name], [changed.input[place]], to=TensorProto.FLOAT))
        nodes.append(changed)
        for place, name in enumerate(node.output):
            if name in half:
                changed.output[place] = f"{name}/wide"
                nodes.append(helper.make_node("Cast", [f"{name}/wide"], [name], to=TensorProto.FLOAT16))
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, model.graph.initializer)
    rounded = ModelProto()
    rounded.CopyFrom(model)
    rounded.graph.CopyFrom(graph)
    return rounded


def compare(reference: ModelProto, half: ModelProto, batches: Iterable[Batch]) -> HalfParity:
    """Run a model in float32 and, emulated, in half precision; batches are network inputs, one a canvas or more."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    exact = ort.InferenceSession(reference.SerializeToString(), options, providers=["CPUExecutionProvider"])
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    rounded = ort.InferenceSession(emulated(half).SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = exact.get_inputs()[0].name
    differences = [np.abs(exact.run(None, {name: batch})[0] - rounded.run(None, {name: batch})[0]) for batch in batches]
    return HalfParity(
        mean=float(np.mean([difference.mean() for difference in differences])),
        largest=float(np.max([difference.max() for difference in differences])),
    )
