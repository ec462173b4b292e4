"""Several runs as one report: what is shown of each, and the page."""

import io
from typing import Any

from rich.console import Console

from benchmarks.series import Series, print_series, render, report_of
from support.bench_reports import MACHINE, figures, plan


def sweep() -> dict[str, Any]:
    runs = [
        ("size=640x360", figures(plan())),
        ("size=<b>1080p</b>", figures(plan(measured_s=4.0), median_ms=40.0, drop_share=0.1)),
        ("sessions=99", {"load": figures(plan(measured_s=4.0))["load"], "failed": "RESOURCE_EXHAUSTED: 64 are open"}),
    ]
    return report_of(Series("sweep", runs, "3 runs: size", {"sweep": ["size"]}), MACHINE, ["python", "run.py"])


def test_each_run_has_a_line_and_what_must_not_be_quoted_is_marked() -> None:
    console = Console(file=io.StringIO(), width=200)
    print_series(sweep(), console)
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    (first,) = [line for line in text.splitlines() if "size=640x360" in line]
    assert "60.0" in first
    assert "INVALID" not in first
    (second,) = [line for line in text.splitlines() if "1080p" in line]
    assert "INVALID" in second
    assert "~" in second
    assert "not taken: RESOURCE_EXHAUSTED: 64 are open" in text
    assert "INVALID  too few samples for p99" in text


def test_the_page_shows_every_run_and_escapes_their_names() -> None:
    report = sweep()
    page = render(report)
    assert report["schema"] == "humanseg.benchmark.series/1"
    assert "size=&lt;b&gt;1080p&lt;/b&gt;" in page
    assert "not taken: RESOURCE_EXHAUSTED" in page
    assert 'class="line' not in page, "runs that differ in more than the load are not joined by a line"
    assert page.count("<svg") == 2


def test_a_series_in_which_nothing_came_back_has_a_page_too() -> None:
    runs = [("capacity", {"load": figures(plan(measured_s=4.0))["load"], "failed": "UNAVAILABLE"})]
    page = render(report_of(Series("capacity", runs, "0 sessions", {}), MACHINE, []))
    assert "<svg" not in page
    assert "UNAVAILABLE" in page
