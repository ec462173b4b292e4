"""docs/engines-cpu.md: its commands are understood, and the bars it states are those of the contract suite."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import engine_threads, engines
from support.timing import limit_s

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "engines-cpu.md").read_text()
FLAT = " ".join(PAGE.split())
SUITE = (ROOT / "tests" / "contract" / "test_runner.py").read_text()
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
PARSERS = {"benchmarks.engines": engines.parse_arguments, "benchmarks.engine_threads": engine_threads.parse_arguments}


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_understood(line: str) -> None:
    """They are run by tests/integration/test_engine_benchmarks.py and tests/unit/train/test_quantize.py."""
    python, flag, module, *flags = shlex.split(line)
    assert (python, flag) == ("python", "-m")
    if module in PARSERS:
        PARSERS[module](flags)
    else:
        help_text = subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True,
            timeout=limit_s(60),
        ).stdout  # fmt: skip
        assert all(word in help_text for word in flags if word.startswith("--"))


def test_the_bars_stated_are_those_of_the_contract_suite() -> None:
    assert len(COMMANDS) >= 5
    assert "within 0.002 of mean alpha in float32 and 0.01 in half precision" in FLAT
    assert [float(bar) for bar in re.findall(r"parity=([\d.]+)", SUITE)] == [0.002, 0.01]
    (largest,) = re.findall(r"^MAX_BATCH = (\d+)$", SUITE, re.MULTILINE)
    assert f"every batch size from 1 to {largest} " in FLAT
