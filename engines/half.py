"""An ONNX model with its network in half precision: ``python -m engines.half medium.onnx medium-fp16.onnx``.

TensorRT 11 takes precision from the ONNX file and has no switch for it. Input stays uint8, output stays float32. What
lies between the first and the last convolution is computed in half precision; what comes before (normalization), what
comes after (last upsampling, sigmoid), what sums over a whole picture and what this module does not know stay in
float32, with casts between. The file runs on ONNX Runtime as well.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engines.onnx_checks import check_model_file, precision_of, weights
from engines.plan import Precision
from engines.runner import ModelFileError

#: The network begins at the first of these and ends at the last.
HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
#: Exact, or harmless at 11 bits of mantissa. Anything else stays in float32: sums over a picture (Reduce*, Global*,
#: *Normalization), exponentials (Sigmoid, Softmax), divisions.
LIGHT = frozenset(
    {"Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "Flatten", "HardSigmoid", "HardSwish", "Identity",
     "LeakyRelu", "MaxPool", "Mul", "PRelu", "Pad", "Relu", "Reshape", "Resize", "Slice", "Split", "Squeeze",
     "Transpose", "Unsqueeze"}
)  # fmt: skip
#: Inputs that ONNX wants in float32 whatever the node computes in: scales of Resize.
_FLOAT_INPUTS = {"Resize": frozenset({1, 2})}
LARGEST = float(np.finfo(np.float16).max)
#: In the metadata of a converted file, for the reader; what counts is the types in the graph.
PROPERTY = "humanseg.precision"


class HalfError(ModelFileError):
    """The model cannot be had in half precision."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A model in half precision and what was done to it."""

    model: ModelProto
    half: Counter[str]
    """Operators computed in half precision, how many of each."""
    kept: Counter[str]
    """Operators that stay in float32."""
    casts: int
    """Casts added."""

    def __str__(self) -> str:
        half, kept = (
            ", ".join(f"{count} {name}" for name, count in sorted(part.items())) for part in (self.half, self.kept)
        )
        return f"in half precision {half}; in float32 {kept}; {self.casts} casts added"


def to_half(model: ModelProto) -> Converted:
    """Convert a model; the one given stays as it is.

    Raises:
        HalfError: it is in half precision already, has subgraphs or no convolution, or a weight is too large.
    """
    if precision_of(model) is Precision.FP16:
        raise HalfError("the model is in half precision already")
    if any(attribute.type == AttributeProto.GRAPH for node in model.graph.node for attribute in node.attribute):
        raise HalfError("the model has subgraphs (If, Loop, Scan), which are not converted; export it without them")
    return _Conversion(model).run()


class _Conversion:
    """One pass over the nodes in their order, which ONNX guarantees to be topological."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._constants = dict(weights(model.graph))
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        self._floats = {
            value.name
            for value in (*inferred.value_info, *inferred.input, *inferred.output)
            if value.type.tensor_type.elem_type == TensorProto.FLOAT
        } | {name for name, tensor in self._constants.items() if tensor.data_type == TensorProto.FLOAT}
        self._half: set[str] = set()
        """Values that are in half precision so far."""
        self._cast: dict[tuple[str, int], str] = {}
        """Value and type wanted, to the name under which it is there in that type."""
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._casts = 0

    def run(self) -> Converted:
        graph = self._model.graph
        inside = _between_heavy(graph)
        half, kept = Counter[str](), Counter[str]()
        for position, node in enumerate(graph.node):
            if node.op_type == "Constant":
                if node.output[0] not in self._constants:  # written as value_float and the like
                    raise HalfError(
                        f"Constant {node.output[0]} has no `value`; export the model with opset 13 or later"
                    )
                continue
            in_half = position in inside and node.op_type in HEAVY | LIGHT
            in_half = in_half and any(name in self._floats for name in node.output)
            (half if in_half else kept)[node.op_type] += 1
            self._nodes.append(self._converted(node, in_half))
        outputs = {value.name for value in graph.output}
        for node in self._nodes:
            for name in node.output:
                if name in outputs and name in self._half:
                    raise HalfError(
                        f"output {name} comes straight from {node.op_type}; a network ends with its sigmoid"
                    )
        converted = helper.make_graph(
            self._nodes, graph.name, graph.input, graph.output, self._initializers, doc_string=graph.doc_string
        )
        model = ModelProto()
        model.CopyFrom(self._model)
        model.graph.CopyFrom(converted)
        properties = {entry.key: entry.value for entry in model.metadata_props}
        del model.metadata_props[:]
        helper.set_model_props(model, {**properties, PROPERTY: str(Precision.FP16)})
        onnx.checker.check_model(model, full_check=True)
        return Converted(model, half, kept, self._casts)

    def _converted(self, node: NodeProto, in_half: bool) -> NodeProto:
        wanted = TensorProto.FLOAT16 if in_half else TensorProto.FLOAT
        inputs = []
        for place, name in enumerate(node.input):
            if node.op_type == "Cast" and name not in self._constants:  # takes whatever comes
                inputs.append(name)
                continue
            as_float = place in _FLOAT_INPUTS.get(node.op_type, ())
            inputs.append(self._as_type(name, TensorProto.FLOAT if as_float else wanted))
        changed = NodeProto()
        changed.CopyFrom(node)
        del changed.input[:]
        changed.input.extend(inputs)
        if in_half:
            self._half.update(name for name in node.output if name in self._floats)
        return changed

    def _as_type(self, name: str, wanted: int) -> str:
        """The name under which a value is there in a type; makes it so the first time."""
        constant = self._constants.get(name)
        if constant is not None and name not in self._floats:
            wanted = constant.data_type
        if constant is None and (name not in self._floats or (name in self._half) == (wanted == TensorProto.FLOAT16)):
            return name
        if (name, wanted) in self._cast:
            return self._cast[name, wanted]
        if constant is not None:
            tensor = _constant_in(constant, name, wanted)
            self._initializers.append(tensor)
            self._cast[name, wanted] = tensor.name
            return str(tensor.name)
        target = f"{name}/{'half' if wanted == TensorProto.FLOAT16 else 'float'}"
        self._nodes.append(helper.make_node("Cast", [name], [target], name=f"{target}/Cast", to=wanted))
        self._casts += 1
        self._cast[name, wanted] = target
        return target


def _constant_in(constant: TensorProto, name: str, wanted: int) -> TensorProto:
    values = numpy_helper.to_array(constant)
    if values.dtype != np.float32 or wanted != TensorProto.FLOAT16:
        return numpy_helper.from_array(values, name)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= LARGEST:
        raise HalfError(f"weight {name} reaches {largest:g}, half precision ends at {LARGEST:g}; serve it in fp32")
    return numpy_helper.from_array(values.astype(np.float16), f"{name}/half")


def _between_heavy(graph: GraphProto) -> set[int]:
    """Positions of the nodes that have a heavy node at or before them and at or behind them."""
    behind_heavy: set[str] = set()
    forward = set()
    for position, node in enumerate(graph.node):
        if node.op_type in HEAVY or behind_heavy.intersection(node.input):
            forward.add(position)
            behind_heavy.update(node.output)
    before_heavy: set[str] = set()
    backward = set()
    for position, node in reversed(list(enumerate(graph.node))):
        if node.op_type in HEAVY or before_heavy.intersection(node.output):
            backward.add(position)
            before_heavy.update(name for name in node.input if name)
    if not forward & backward:
        raise HalfError(f"the model has none of {', '.join(sorted(HEAVY))}; half precision would change nothing")
    return forward & backward


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m engines.half",
        description="Write an ONNX model in half precision: uint8 in, float32 out, half in between.",
        epilog="example:\n  python -m engines.half engines/models/medium.onnx out/medium-fp16.onnx",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="FILE", help="the .onnx file in float32")
    parser.add_argument("out", type=Path, metavar="OUT", help="the .onnx file to write")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    unfinished = options.out.with_name(options.out.name + ".tmp")
    try:
        converted = to_half(check_model_file(options.model).model)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(converted.model.SerializeToString())
        unfinished.replace(options.out)
    except ModelFileError as error:
        print(f"engines.half: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"engines.half: {options.out} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB, {converted}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
