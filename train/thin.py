"""``python -m train.thin``: where *small* begins, the encoder of a trained *medium* with fewer channels in each block.

Block by block, those channels inside are kept that explain most of the block's output together, and the block's last
convolution is solved anew by least squares, so that on real photos what is left comes nearest to what the whole block
gave, errors of the blocks before included (after He, Zhang, Sun: Channel Pruning for Accelerating Very Deep Neural
Networks, ICCV 2017). Nothing is learned by gradients here, and the decoder is left as it begins; `train.train` goes on
with ``--init``, best with the whole network as ``--teacher``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from humanseg.vision.letterbox import letterbox
from train.checkpoint import CheckpointError, load_network, save_start
from train.data import DataError, find_photos, read_photo, split_photos
from train.networks.blocks import ConvUnit, InvertedResidual, normalize
from train.networks.efficientnet_lite import EfficientNetLite
from train.networks.medium import Medium
from train.networks.small import Small
from train.presets import PRESETS

#: How many photos are looked at, and how many at once.
PHOTOS, CHUNK = 192, 16
#: Of the mean variance of the kept channels, added to each: what hardly varies is not leant on.
RIDGE = 1e-4

EXAMPLES = """examples:
  python -m train.thin --checkpoint train/weights/medium.pt --data ../shared/data/train --out runs/thin.pt
  python -m train.train --model small --data DATA --out runs/small --init runs/thin.pt --teacher train/weights/medium.pt
"""


@torch.no_grad()
def thin_encoder(whole: EfficientNetLite, thin: EfficientNetLite, pictures: Tensor) -> list[float]:
    """Fill a thin encoder from a whole one.

    Args:
        whole: trained, in evaluation mode.
        thin: filled in place: blocks as of ``whole``, perhaps without the last ones, with as many channels between
            them and fewer inside.
        pictures: (N, H, W, 3) uint8 RGB, sides divisible by 32; the more, the better is known what blocks give.

    Returns:
        What each block of ``thin`` does not reproduce: mean squared difference over the variance of the whole one's.
    """
    thin.eval()
    thin.stem.load_state_dict(whole.stem.state_dict())
    exact = torch.cat([whole.stem(normalize(part)) for part in torch.split(pictures, CHUNK)])
    seen, lost = exact, []
    bar = tqdm(list(zip(thin.blocks, whole.blocks, strict=False)), desc="thinning", unit="block", leave=False)
    for block, source in bar:
        exact = torch.cat([source(part) for part in torch.split(exact, CHUNK)])
        _fill(cast(InvertedResidual, block), cast(InvertedResidual, source), seen, exact)
        seen = torch.cat([block(part) for part in torch.split(seen, CHUNK)])
        lost.append(float((seen - exact).square().mean() / exact.var()))
    return lost


def best_channels(covariance: NDArray[np.float64], shared: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Greedy choice of inputs that explain most of the outputs together, forward selection on normal equations.

    Args:
        covariance: (C, C) of the inputs.
        shared: (C, O), covariance of inputs and outputs.
        count: how many to choose, at most C.

    Returns:
        (count,) indices, rising.
    """
    covariance, shared = covariance.copy(), shared.copy()
    tiny = 1e-9 * np.trace(covariance)
    free = np.ones(len(covariance), bool)
    for _ in range(count):
        variance = np.diagonal(covariance)
        gain = np.where(free, (shared**2).sum(1) / np.maximum(variance, tiny), -1.0)
        best = int(gain.argmax())
        free[best] = False
        # What this one explains of the others is taken out of them; one that is explained already gains nothing more.
        column, row = covariance[:, best].copy(), shared[best].copy()
        scale = 1 / max(column[best], tiny)
        covariance -= np.outer(column, column) * scale
        shared -= np.outer(column, row) * scale
    return np.flatnonzero(~free)


def _fill(block: InvertedResidual, source: InvertedResidual, seen: Tensor, exact: Tensor) -> None:
    """One block: choose the channels, copy what leads to them, solve what leads out of them."""
    if len(source.layers) == 2:
        block.load_state_dict(source.state_dict())
        return
    expand, depthwise, _ = cast(Sequence[ConvUnit], source.layers)
    wanted = exact - seen if source.adds else exact
    total, places = None, 0
    for part, out in zip(torch.split(seen, CHUNK), torch.split(wanted, CHUNK), strict=True):
        rows = torch.cat((depthwise(expand(part)), out), dim=1).permute(0, 2, 3, 1).flatten(0, 2).double()
        # A column of ones: its products are the sums.
        rows = torch.cat((rows, torch.ones(len(rows), 1, dtype=rows.dtype)), dim=1)
        product = rows.T @ rows
        total, places = product if total is None else total + product, places + len(rows)
    assert total is not None
    moments = (total / places).numpy()
    means = moments[-1, :-1]
    covariances = moments[:-1, :-1] - np.outer(means, means)
    wide = cast(nn.Conv2d, expand[0]).out_channels
    narrow, leading, leaving = cast(Sequence[ConvUnit], block.layers)
    count = cast(nn.Conv2d, narrow[0]).out_channels
    kept = best_channels(covariances[:wide, :wide], covariances[:wide, wide:], count)
    own, shared = covariances[np.ix_(kept, kept)], covariances[kept, wide:]
    ridge = RIDGE * np.trace(own) / len(kept) * np.eye(len(kept))
    solved = np.linalg.solve(own + ridge, shared).T
    for unit, whole in ((narrow, expand), (leading, depthwise)):
        _copy_channels(unit, whole, kept)
    # The norm after the solved convolution holds that convolution's own statistics, as if it had been trained with it.
    mean, variance = solved @ means[:wide][kept], np.einsum("oc,cd,od->o", solved, own, solved)
    conv, norm = cast(nn.Conv2d, leaving[0]), cast(nn.BatchNorm2d, leaving[1])
    conv.weight.copy_(torch.from_numpy(solved)[:, :, None, None])
    for tensor, values in (
        (norm.running_mean, mean),
        (norm.running_var, variance),
        (norm.weight, np.sqrt(variance + norm.eps)),
        (norm.bias, means[wide:]),
    ):
        cast(Tensor, tensor).copy_(torch.from_numpy(values))


def _copy_channels(unit: ConvUnit, whole: ConvUnit, kept: NDArray[np.int64]) -> None:
    index = torch.from_numpy(kept)
    state = whole.state_dict()
    unit.load_state_dict({name: value[index] if value.ndim else value for name, value in state.items()})


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.thin",
        description="Make the beginning of a small network from a trained medium one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="a trained medium")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of <source>/images and masks")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="weights to begin with (--init)")
    parser.add_argument("--photos", type=int, default=PHOTOS, metavar="N", help=f"to look at (default {PHOTOS})")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    if options.photos < 1:
        parser.error(f"--photos {options.photos} must be 1 or more")
    preset = PRESETS["small"]
    try:
        network, run = load_network(options.checkpoint)
        if type(network) is not Medium:
            raise CheckpointError(f"{options.checkpoint} is of model {run['model']!r}; only 'medium' is made thin")
        photos = split_photos(find_photos(options.data)).train
        step = max(1, len(photos) // options.photos)
        # One canvas for all: upright photos lie padded on it, which teaches the encoder nothing wrong.
        shown = [letterbox(read_photo(one), preset.canvases.landscape)[0] for one in photos[::step][: options.photos]]
        small = Small()
        lost = thin_encoder(network.encoder, small.encoder, torch.from_numpy(np.stack(shown)))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        save_start(options.out, small, preset.to_plain())
    except (CheckpointError, DataError, OSError) as error:
        print(f"train.thin: {error}", file=sys.stderr)
        return 1
    print(f"lost of each block's output: {', '.join(f'{one:.1%}' for one in lost)}")
    print(f"{options.out}: begin a run with --init {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
