"""Two runs side by side: intervals of differences against theory, and what is said about unlike runs."""

import io
import json
import random
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.compare import CompareError, Estimate, compare, load_report, print_comparison, subtract, unlike
from support.bench_reports import report


def test_the_interval_of_a_difference_of_two_normal_means_is_the_textbooks() -> None:
    a, b = Estimate(10.0, (10 - 1.96 * 3, 10 + 1.96 * 3)), Estimate(12.0, (12 - 1.96 * 4, 12 + 1.96 * 4))
    # Standard errors 3 and 4 make one of 5.
    assert subtract(a, b) == Estimate(2.0, (pytest.approx(2 - 1.96 * 5), pytest.approx(2 + 1.96 * 5)))


def test_lopsided_intervals_keep_their_sides() -> None:
    difference = subtract(Estimate(10.0, (9.0, 14.0)), Estimate(20.0, (19.0, 23.0)))
    assert difference.value == 10
    assert difference.interval == (pytest.approx(10 - (1 + 16) ** 0.5), pytest.approx(10 + (9 + 1) ** 0.5))
    assert subtract(Estimate(1.0), Estimate(2.0, (1.0, 3.0))) == Estimate(1.0, None)


def test_equal_servers_are_rarely_told_apart_and_a_slower_one_always_is() -> None:
    rng = random.Random(1)
    first = report(seed=rng.randrange(1000))
    same = {row.name: row for row in compare(first, report(seed=1001))}
    slower = {row.name: row for row in compare(first, report(median_ms=20.0, seed=1002))}
    assert not same["latency p50, ms"].is_shown
    assert slower["latency p50, ms"].is_shown
    assert slower["latency p50, ms"].difference.value == pytest.approx(2.0, abs=0.5)
    assert slower["on time within 16.7 ms, %"].difference.value < 0
    assert "latency p99.9, ms" not in same, "too few samples stand behind it"
    assert not slower["server CPU a mask, ms"].is_shown, "a figure without an interval shows nothing"


def shown(a: Path, b: Path) -> str:
    console = Console(file=io.StringIO(), width=140)
    print_comparison([a, b], console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_both_are_printed_with_what_is_unlike(tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    first, second = report(), report(median_ms=25.0, measured_s=4.0)
    second["served"]["settings"]["engine"] = "openvino-bf16"
    a.write_text(json.dumps(first))
    b.write_text(json.dumps(second))
    text = shown(a, b)
    assert "[17." in text, "intervals are not taken for markup"
    assert "unlike   load.measured_s: 20.0 | 4.0" in text
    assert "unlike   served.settings: engine onnxruntime-cpu | openvino-bf16" in text
    assert "B INVALID  too few samples for p99" in text
    assert "A INVALID" not in text
    assert "unlike" not in shown(a, a)
    assert unlike(first, first) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "has schema None, expected"),
        ('{"schema": "humanseg.demo/1"}', "has schema 'humanseg.demo/1', expected 'humanseg.benchmark.run/2'"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CompareError, match=message) as refusal:
        load_report(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
