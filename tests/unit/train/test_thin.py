"""Thinning an encoder: the channels that matter stay, little is lost, and a run can begin with what comes out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.photos import write_photo
from train import thin
from train.checkpoint import load_network, load_weights, save_start
from train.networks.blocks import initialize
from train.networks.efficientnet_lite import EfficientNetLite, Stage, Variant
from train.networks.medium import Medium
from train.networks.small import Small
from train.presets import PRESETS

STAGES = (Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 8), Stage(2, 5, 2, 6, 8))


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_channels_that_explain_everything_are_found(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(400, 12))
    chosen = rng.permutation(12)[:count]
    outputs = inputs[:, chosen] @ (np.sign(rng.normal(size=(count, 3))) * rng.uniform(1, 2, (count, 3)))
    both = np.cov(np.hstack((inputs, outputs)).T)
    assert thin.best_channels(both[:12, :12], both[:12, 12:], count).tolist() == sorted(chosen.tolist())


def test_of_two_channels_that_say_the_same_one_is_enough() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 4))
    inputs[:, 1] = 2 * inputs[:, 0]
    outputs = (3 * inputs[:, 0] + 0.1 * inputs[:, 2])[:, np.newaxis]
    both = np.cov(np.hstack((inputs, outputs)).T)
    kept = thin.best_channels(both[:4, :4], both[:4, 4:], 2)
    assert 2 in kept
    assert (0 in kept) != (1 in kept)


def whole_encoder() -> EfficientNetLite:
    torch.manual_seed(0)
    encoder = EfficientNetLite(Variant(STAGES))
    initialize(encoder)
    return encoder.eval()


def pictures() -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8))


def test_with_all_channels_nothing_is_lost() -> None:
    whole, copy = whole_encoder(), EfficientNetLite(Variant(STAGES))
    lost = thin.thin_encoder(whole, copy, pictures())
    assert len(lost) == len(whole.blocks)
    assert max(lost) < 1e-3
    fresh = torch.flip(pictures(), (1,))
    with torch.no_grad():
        for exact, seen in zip(
            whole(fresh.permute(0, 3, 1, 2) / 255), copy(fresh.permute(0, 3, 1, 2) / 255), strict=True
        ):
            assert (exact - seen).square().mean() < 0.02 * exact.var()


def test_a_third_of_the_channels_keeps_most_of_each_block() -> None:
    narrow = Variant((STAGES[0], *(stage._replace(expansion=2) for stage in STAGES[1:])))
    lost = thin.thin_encoder(whole_encoder(), EfficientNetLite(narrow), pictures())
    # Random weights are the worst case: no channel is superfluous. To give nothing at all would lose 1.
    assert lost[0] == 0
    assert max(lost) < 0.7


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in range(12):
        write_photo(tmp_path / "data", "discs", f"{number:02}", size=(64, 40), seed=number)
    return tmp_path / "data"


def test_a_run_of_small_can_begin_with_what_comes_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    medium, out = tmp_path / "medium.pt", tmp_path / "made" / "thin.pt"
    save_start(medium, Medium(), PRESETS["medium"].to_plain())
    arguments = ["--checkpoint", str(medium), "--data", str(data), "--out", str(out), "--photos", "4"]
    assert thin.main(arguments) == 0
    assert "lost of each block's output: 0.0%" in capsys.readouterr().out
    small = Small()
    load_weights(small, "small", out)
    stem = load_network(medium)[0].encoder.stem.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(value, small.encoder.stem.state_dict()[name]) for name, value in stem.items())


def test_only_a_medium_is_made_thin(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "small.pt"
    save_start(small, Small(), PRESETS["small"].to_plain())
    assert thin.main(["--checkpoint", str(small), "--data", str(data), "--out", str(tmp_path / "no.pt")]) == 1
    assert "is of model 'small'; only 'medium' is made thin" in capsys.readouterr().err
    assert not (tmp_path / "no.pt").exists()
