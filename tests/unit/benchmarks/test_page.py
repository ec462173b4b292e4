"""report.html: complete in itself, and what a real browser makes of it."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.page import render
from support.bench_reports import figures, plan, report
from support.browser import READABLE_PX, find_browser, look_at

CHARTS = {
    "Latency percentiles over offered load", "Masks and drops at each load", "Where a frame's time goes",
    "Latency over time", "Masks and drops over time", "Batch sizes", "Memory of the server over time",
    "CPU of the server over time", "Latency of each session",
}  # fmt: skip


class References(HTMLParser):
    """Collects whatever a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        assert tag not in ("script", "iframe", "object", "embed"), tag


def test_a_page_fetches_nothing_and_escapes_what_it_shows() -> None:
    page = render(report())
    references = References()
    references.feed(page)
    assert references.found == ["data:,"]
    assert not re.search(r"url\(|@import|https?://", page)
    assert "a CPU &lt;of 2026&gt; &amp; more" in page
    assert "/some/where" not in page
    assert "/home/someone" not in page


def test_an_invalid_run_says_so_first_and_why() -> None:
    page = render(report(measured_s=5.0, exit_status=-9))
    assert page.index("INVALID: not to be quoted") < page.index("too few samples for p99") < page.index("latency p50")
    assert "the server ended with status -9" in page
    assert "~" in page


def test_a_run_without_a_single_mask_and_without_a_look_into_the_server_has_a_page() -> None:
    nothing = report()
    nothing |= {**figures(plan(measured_s=2.0), drop_share=1.1), "served": nothing["served"]}
    nothing |= {"server_samples": [], "ladder": [], "bare_engine": {"not_measured": "the server was given by --target"}}
    for key in ("cpu_ms_per_mask", "batch_frames", "rss_slope_bytes_per_min"):
        nothing["server"][key] = None
    nothing["service_efficiency"]["ratio"] = None
    page = render(nothing)
    assert "120 of 120 frames" in page
    assert not re.search(r"\bnan\b", page)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render(report()), encoding="utf-8")
    return file


@pytest.mark.skipif(find_browser() is None, reason="no chromium here; Debian: apt-get install chromium")
@pytest.mark.parametrize(("width", "is_dark"), [(1400, False), (1400, True), (1100, False), (390, False)])
def test_a_real_browser_shows_every_chart_readably_without_a_network(
    page_file: Path, width: int, is_dark: bool, tmp_path: Path
) -> None:
    seen = look_at(page_file, tmp_path, width=width, is_dark=is_dark)
    assert {chart["name"] for chart in seen["charts"]} == CHARTS
    assert all(chart["width"] > 250 and chart["height"] > 40 for chart in seen["charts"])
    assert seen["fetched"] == []
    assert seen["console"] == []
    assert seen["overlaps"] == []
    assert seen["outside"] == []
    assert seen["faint"] == []
    assert seen["smallestText"] >= READABLE_PX, "charts scroll sideways rather than shrink"
    assert seen["pageWidth"] <= seen["viewWidth"], "nothing scrolls sideways but wide tables within themselves"
    red, _, _ = (int(number) for number in re.findall(r"\d+", seen["paper"])[:3])
    assert red < 60 if is_dark else red > 200
    assert "VALID" in seen["text"]
    assert "not taken: RESOURCE_EXHAUSTED: 8 sessions are open" in seen["text"]
