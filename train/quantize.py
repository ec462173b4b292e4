"""``python -m train.quantize``: an exported model to int8 for CPUs, calibrated on photos that it was trained on.

Weights are int8, symmetric, a scale a channel; activations are uint8, a scale and zero point a tensor, as Q/DQ pairs in
the graph (ONNX Runtime's static quantization). Not int8 activations: with them ONNX Runtime was slower
than in float32. From the last convolution on all is in float32: alpha would come in steps otherwise. What it gives and
costs, and what else was tried, stands in docs/engines-cpu.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from engines.metadata import MetadataError, ModelMetadata
from engines.registry import DEFAULT_ENGINE, open_runner
from engines.runner import EngineError
from humanseg.vision.arrays import Batch, Size
from humanseg.vision.letterbox import choose_canvas, letterbox
from train.data import DataError, Photo, find_photos, read_photo, split_photos

#: Kinds of nodes that compute in int8; the rest is what surrounds them.
KINDS = ("Conv", "Clip", "Add", "Concat", "Resize")
#: Mean difference of alpha from the model in float32, over the photos it was calibrated on, above which something is
#: wrong beyond rounding: 0.008 was seen with medium.
TOLERANCE = 0.03

EXAMPLES = """examples:
  python -m train.quantize --model engines/models/medium.onnx --data ../shared/data/train --out out/medium_int8.onnx
  python -m train.evaluate --onnx engines/models/medium.onnx out/medium_int8.onnx --data ../shared/data/train
  python -m benchmarks.engines --model engines/models/medium.onnx out/medium_int8.onnx
  python -m benchmarks.temporal --model out/medium_int8.onnx --data ../shared/data/train --out out/temporal_int8

For CPUs with VNNI (x86-64 since 2019): older ones add products of uint8 and int8 in 16 bits, which can overflow.
"""


class QuantizeError(RuntimeError):
    """The model cannot be quantized, or what came out of it is another model."""


class _Photos(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Network inputs one by one, as the quantizer asks for them."""

    def __init__(self, inputs: Iterator[Batch], name: str) -> None:
        self._inputs = inputs
        self._name = name

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next input by name; None after the last."""
        batch = next(self._inputs, None)
        return None if batch is None else {self._name: batch}


def choose_photos(photos: Sequence[Photo], count: int, seed: int = 0) -> list[Photo]:
    """So many photos to calibrate on, of those the network learned from; never one that is kept for validation."""
    split = split_photos(photos)
    learned = [*split.train, *split.train_backgrounds]
    order = np.random.default_rng(seed).permutation(len(learned))[:count]
    return [learned[index] for index in order]


def network_input(photo: Photo, metadata: ModelMetadata) -> Batch:
    """A photo as the service would hand it to the network, (1, H, W, 3) uint8.

    Raises:
        DataError: it cannot be decoded.
    """
    picture = read_photo(photo)
    canvas = choose_canvas(Size.of(picture), metadata.landscape, metadata.upright)
    return letterbox(picture, canvas)[0][np.newaxis]


def tail_of(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes from the last convolutions on to the output, these included."""
    makers = {output: node for node in model.graph.node for output in node.output}
    waiting, tail = [port.name for port in model.graph.output], dict[str, None]()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in tail:
            tail[node.name] = None
            if node.op_type != "Conv":
                waiting += node.input
    return list(tail)


def quantize(
    source: Path, out: Path, photos: Sequence[Photo], shown: Callable[[Iterator[Batch]], Iterator[Batch]]
) -> float:
    """Write the int8 model, whole or not at all; returns the mean difference of alpha on the photos.

    Args:
        source: an exported model.
        out: the file to write; the model in it is named like the source with ``-int8`` behind.
        photos: to calibrate on.
        shown: wraps what is iterated over, to show how far it is.

    Raises:
        QuantizeError: the model is no picture network, or the result differs too much.
        MetadataError, EngineError, DataError, OSError: the model or a photo cannot be used, or the file not written.
    """
    open_runner(DEFAULT_ENGINE, source, max_batch=1, concurrency=1)  # refuses what is no model of ours, by name
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        prepared, unfinished = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        model = onnx.load(prepared)
        metadata = ModelMetadata.from_properties({pair.key: pair.value for pair in model.metadata_props})
        if metadata.channels != 3 or not any(node.op_type == "Conv" for node in model.graph.node):
            raise QuantizeError(f"{source} is not a network of pictures alone (3 channels) with convolutions")
        inputs = (network_input(photo, metadata) for photo in photos)
        quantize_static(
            str(prepared), str(unfinished), _Photos(shown(inputs), model.graph.input[0].name),
            quant_format=QuantFormat.QDQ, op_types_to_quantize=list(KINDS), per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=tail_of(model),
            extra_options={"WeightSymmetric": True},
        )  # fmt: skip
        _describe(unfinished, metadata, len(photos))
        difference = compare(source, unfinished, photos)
        if not difference <= TOLERANCE:
            raise QuantizeError(
                f"int8 differs from {source} by {difference:.3f} of alpha on average, allowed is {TOLERANCE:g};"
                " calibrate on more photos (--photos)"
            )
        unfinished.replace(out)
    return difference


def _describe(file: Path, metadata: ModelMetadata, photos: int) -> None:
    """The model's own description of itself, and only the operator sets that it uses."""
    model = onnx.load(file)
    used = {node.domain for node in model.graph.node}
    imports = [one for one in model.opset_import if one.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    del model.metadata_props[:]
    described = {
        **metadata.to_properties(),
        "humanseg.name": f"{metadata.name}-int8",
        "humanseg.trained": f"{metadata.trained}; int8 by train.quantize on {photos} photos",
    }
    onnx.helper.set_model_props(model, described)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)


def compare(source: Path, quantized: Path, photos: Sequence[Photo]) -> float:
    """Mean difference of alpha between two models over photos."""
    one, other = (open_runner(DEFAULT_ENGINE, path, max_batch=1, concurrency=1) for path in (source, quantized))
    inputs = [network_input(photo, one.info.model) for photo in photos]
    return float(np.mean([np.abs(one.run(batch) - other.run(batch)).mean() for batch in inputs]))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.quantize",
        description="Write a model in int8 for CPUs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="the .onnx file of train.export")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of <source>/images and masks")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    parser.add_argument("--photos", type=int, default=60, metavar="N", help="to calibrate on, default 60")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    if options.photos < 1:
        parser.error(f"--photos {options.photos} must be 1 or more")
    try:
        photos = choose_photos(find_photos(options.data), options.photos)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        difference = quantize(
            options.model, options.out, photos,
            lambda inputs: iter(tqdm(inputs, total=len(photos), unit="photo", leave=False, mininterval=2.0)),
        )  # fmt: skip
    except (DataError, EngineError, MetadataError, QuantizeError, OSError) as error:
        print(f"train.quantize: {error}", file=sys.stderr)
        return 1
    size = options.out.stat().st_size
    print(f"{options.out}: {size / 1e6:.1f} MB, alpha differs by {difference:.4f} on average on {len(photos)} photos")
    return 0


if __name__ == "__main__":
    sys.exit(main())
