"""``python -m train.export``: a checkpoint to an ONNX file that describes itself.

The graph takes (N, H, W, 3) uint8 RGB with the Cast first, so that the input stays uint8 on every engine, and gives
(N, H, W) float32 alpha; normalization and sigmoid are inside, batch and size are dynamic, Resize is half-pixel with
constant scales, and nothing reduces over the whole picture (engines/runner.py has the contract). The file is
written only after ONNX Runtime has been compared with PyTorch on it.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from engines.metadata import ModelMetadata
from humanseg.vision.arrays import Size
from train.checkpoint import CheckpointError, load_network, save_weights
from train.networks.efficientnet_lite import LITE0, EfficientNetLite

OPSET = 18
#: Largest difference of alpha between PyTorch and ONNX Runtime, both in float32, that is rounding and not a fault.
TOLERANCE = 2e-3
LICENSE = "weights for research use: photos without stated rights, ImageNet backbone (non-commercial)"
SOURCES = "EG1800 portraits, CCP, COCO 2017, Penn-Fudan, Human Segmentation Dataset (V. Shenoy), Houses dataset"

EXAMPLES = """examples:
  python -m train.export --checkpoint runs/medium/best.pt --out engines/models/medium.onnx
  python -m train.export --checkpoint runs/medium/best.pt --out medium.onnx --version 1.1.0
  python -m train.export --checkpoint best.pt --out medium.onnx --weights-out medium.pt     half the bytes of the ONNX
"""


class ExportError(RuntimeError):
    """The exported graph does not compute what the network computes."""


class Served(nn.Module):
    """A network with its sigmoid, as it is served."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to (N, H, W) float32 alpha."""
        return torch.sigmoid(cast(Tensor, self.network(frames)))


def sources_of(network: nn.Module, box_teacher: str) -> str:
    """What the weights were learned from; ``box_teacher`` is the preset's, of which the model card says more."""
    encoder = getattr(network, "encoder", None)
    boxes = "; COCO 2017 boxes filled with another segmenter's soft masks" if box_teacher else ""
    # The thin encoder has none of its own: it comes out of a whole one.
    pretrained = f"; ImageNet weights of {LITE0.package}" if isinstance(encoder, EfficientNetLite) else ""
    return SOURCES + boxes + pretrained


def export(network: nn.Module, metadata: ModelMetadata, out: Path) -> float:
    """Write the ONNX file, whole or not at all; returns the largest difference of alpha to PyTorch.

    Raises:
        ExportError: the graph computes something else.
    """
    served = Served(network).eval()
    unfinished = out.with_name(out.name + ".tmp")
    example = torch.zeros((2, *metadata.landscape.shape, 3), dtype=torch.uint8)
    try:
        with warnings.catch_warnings():
            # The TorchScript exporter is deprecated; the new one writes shape arithmetic into this graph.
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                served, (example,), str(unfinished), opset_version=OPSET, dynamo=False,
                input_names=["frames"], output_names=["alpha"],
                dynamic_axes={"frames": {0: "batch", 1: "height", 2: "width"},
                              "alpha": {0: "batch", 1: "height", 2: "width"}},
            )  # fmt: skip
        model = onnx.load(unfinished)
        onnx.helper.set_model_props(model, metadata.to_properties())
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, unfinished)
        difference = compare(served, unfinished, metadata.canvases)
        if not difference <= TOLERANCE:
            raise ExportError(f"{out.name} differs from PyTorch by {difference:.2g} of alpha, allowed is {TOLERANCE:g}")
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return difference


@torch.no_grad()
def compare(served: nn.Module, file: Path, canvases: Sequence[Size]) -> float:
    """Largest difference of alpha between PyTorch and ONNX Runtime over batches of structured noise, every canvas."""
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    largest = 0.0
    for canvas in canvases:
        coarse = rng.integers(0, 256, (3, canvas.height // 16, canvas.width // 16, 3), dtype=np.uint8)
        batch = np.ascontiguousarray(coarse.repeat(16, axis=1).repeat(16, axis=2))
        expected = served(torch.from_numpy(batch)).numpy()
        (seen,) = session.run(None, {"frames": batch})
        if seen.shape != expected.shape:
            raise ExportError(
                f"{file.name} answers {seen.shape} to a batch of {batch.shape}, expected {expected.shape}"
            )
        largest = max(largest, float(np.abs(seen - expected).max()))
    return largest


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.export",
        description="Write a checkpoint as an ONNX file for the engines.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="best.pt of a run")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    parser.add_argument(
        "--weights-out", type=Path, metavar="FILE", help="write the weights alone there, to begin a run with (--init)"
    )
    parser.add_argument("--version", default="1.0.0", help="of the weights (default 1.0.0)")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    try:
        network, run = load_network(options.checkpoint)
        canvases = cast(dict[str, tuple[int, int]], run["canvases"])
        metadata = ModelMetadata(
            name=str(run["model"]),
            version=options.version,
            landscape=Size(*canvases["landscape"]),
            upright=Size(*canvases["upright"]),
            normalization="(x - 127) / 128, inside the graph",
            license=LICENSE,
            sources=sources_of(network, str(run.get("box_teacher", ""))),
            trained=f"{run['steps_done']} steps of batch {run['batch']}, validation mean IoU {run['best_iou']:.4f}",
        )
        options.out.parent.mkdir(parents=True, exist_ok=True)
        difference = export(network, metadata, options.out)
        size = options.out.stat().st_size
        print(f"{options.out}: {size / 1e6:.1f} MB, largest difference to PyTorch {difference:.2g} of alpha")
        if options.weights_out:
            options.weights_out.parent.mkdir(parents=True, exist_ok=True)
            size = save_weights(options.checkpoint, options.weights_out)
            print(f"{options.weights_out}: {size / 1e6:.1f} MB of weights in half precision")
    except (CheckpointError, ExportError, OSError) as error:
        print(f"train.export: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
