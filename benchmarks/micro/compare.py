"""``python -m benchmarks.micro.compare RESULTS``: which stage became dearer than the committed baseline says.

pytest-benchmark's results hold CPU time (``--benchmark-timer=time.process_time``). Each stage's least time is divided
by that of fixed work from the same run (`test_reference`), so that a slower or a busier machine changes little; ratios
are compared, never a wall time.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.machine import describe

BASELINE = Path(__file__).with_name("baseline.json")
SCHEMA = "humanseg.benchmark.micro/1"
REFERENCE = "test_reference"
#: A ratio beyond this many times its baseline is a regression: between quiet and busy, ratios move by a third.
TOLERANCE = 1.5
OK, WORSE, FAILED = 0, 3, 1


class MicroError(Exception):
    """Results that cannot be compared; one line for people."""


@dataclass(frozen=True, slots=True)
class Change:
    """A stage now and in the baseline, in units of the reference work; None where it is missing."""

    name: str
    now: float | None
    before: float | None

    @property
    def factor(self) -> float | None:
        """How many times as dear as in the baseline."""
        return self.now / self.before if self.now is not None and self.before else None

    @property
    def is_worse(self) -> bool:
        """Dearer than the tolerance allows, or no longer measured."""
        return self.now is None or (self.factor is not None and self.factor > TOLERANCE)


def ratios(results: Mapping[str, Any]) -> dict[str, float]:
    """Each benchmark's least CPU time in units of the reference's.

    Raises:
        MicroError: wall times, or no reference.
    """
    least_s = {}
    for one in results.get("benchmarks", []):
        if "process_time" not in str(one["options"]["timer"]):
            raise MicroError(
                f"{one['name']} was timed by {one['options']['timer']}; use --benchmark-timer=time.process_time"
            )
        least_s[one["name"]] = float(one["stats"]["min"])
    if REFERENCE not in least_s:
        raise MicroError(f"no {REFERENCE} among {len(least_s)} results; run the whole of benchmarks/micro")
    unit_s = least_s.pop(REFERENCE)
    return {name: round(value / unit_s, 4) for name, value in sorted(least_s.items())}


def changes(now: Mapping[str, float], before: Mapping[str, float]) -> list[Change]:
    """Every stage that either knows."""
    return [Change(name, now.get(name), before.get(name)) for name in sorted({*now, *before})]


def read(path: Path) -> dict[str, Any]:
    """A JSON file.

    Raises:
        MicroError: it cannot be read.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise MicroError(f"{path} cannot be read: {error}") from None


def print_changes(found: Sequence[Change], console: Console) -> None:
    """A line a stage."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD)
    for name in ("stage", "now", "baseline", "factor", ""):
        table.add_column(name, justify="right" if name in ("now", "baseline", "factor") else "left")
    for one in found:
        word = "missing" if one.now is None else "new" if one.before is None else "WORSE" if one.is_worse else ""
        figures = ["" if value is None else f"{value:.3f}" for value in (one.now, one.before, one.factor)]
        table.add_row(escape(one.name), *figures, word)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 no stage is worse, 3 one is, 1 cannot compare."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.micro.compare", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("results", type=Path, help="written by --benchmark-json")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="default: the committed one")
    parser.add_argument("--write", action="store_true", help="make these results the baseline")
    options = parser.parse_args(arguments)
    try:
        now = ratios(read(options.results))
        if options.write:
            machine = describe()
            values = {
                "schema": SCHEMA,
                "created": datetime.now(UTC).date().isoformat(),
                "unit": f"least CPU time of {REFERENCE} in the same run",
                "cpu_model": machine["cpu_model"],
                "packages": machine["packages"],
                "ratios": now,
            }
            options.baseline.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            return OK
        found = changes(now, read(options.baseline)["ratios"])
    except (MicroError, KeyError, OSError) as error:
        print(f"benchmarks.micro.compare: {error}", file=sys.stderr)
        return FAILED
    console = Console()
    print_changes(found, console)
    worse = [one.name for one in found if one.is_worse]
    if worse:
        console.print(
            f"more than {TOLERANCE} times the baseline, or missing: {', '.join(worse)}", highlight=False, markup=False
        )
    return WORSE if worse else OK


if __name__ == "__main__":
    sys.exit(main())
