"""docs/temporal.md: its commands are understood, and what it says of constants and names is so."""

import re
import shlex
from pathlib import Path

import pytest

from benchmarks.temporal import parse_arguments
from humanseg.options import TemporalFusion
from humanseg.vision.arrays import Size
from humanseg.vision.temporal import LONGEST_GAP_US, PARAMETERS, SCENE_VALIDITY, FusionState, fuse
from humanseg.vision.temporal_alternatives import EMA_SHARE, Alternative
from support.clips import draw_clip
from train.clips import ClipKind

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "temporal.md").read_text()
FLAT = " ".join(PAGE.split())
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_understood(line: str) -> None:
    """The command itself is run by tests/integration/test_temporal_benchmark.py."""
    python, flag, module, *flags = shlex.split(line)
    assert (python, flag, module) == ("python", "-m", "benchmarks.temporal")
    parse_arguments(flags)


def test_there_are_commands() -> None:
    assert COMMANDS


def test_the_constants_stated_are_those_in_use() -> None:
    high, low = PARAMETERS[TemporalFusion.HIGH], PARAMETERS[TemporalFusion.LOW]
    assert f"moves {high.first_gain:.0%}".replace("%", " %") in FLAT
    assert f"{high.second_gain:.0%} of the rest".replace("%", " %") in FLAT
    assert f"less than {SCENE_VALIDITY:.0%} of the picture".replace("%", " %") in FLAT
    assert "half a second without a frame" in FLAT
    assert LONGEST_GAP_US == 500_000
    assert f"up to {low.max_age:g} frames, takes at least {low.min_gain:.0%}".replace("%", " %") in FLAT
    assert f"up to {high.max_age:g} frames, takes at least {high.min_gain:.0%}".replace("%", " %") in FLAT
    assert f"new share {EMA_SHARE}" in FLAT


def test_the_size_of_the_memory_stated_is_the_size_it_has() -> None:
    (frame,) = draw_clip(shifts_px=[0.0], size=Size(320, 192))
    state = FusionState()
    fuse(state, frame.gray, frame.truth, 1, PARAMETERS[TemporalFusion.HIGH])
    assert f"{state.nbytes / 1000:.0f} KB at 320x192" in FLAT


def test_every_alternative_and_kind_of_clip_is_explained() -> None:
    for name in set(Alternative) - {Alternative.OFF, Alternative.LOW, Alternative.HIGH}:
        assert f"| `{name}` |" in PAGE
    for kind in ClipKind:
        assert f"*{kind}*" in PAGE


def test_every_picture_shown_is_there() -> None:
    for name in re.findall(r"\]\((images/[^)]+)\)", PAGE):
        assert (ROOT / "docs" / name).is_file()
