"""Scales, ticks and marks of the charts, read back from the SVG."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.bars import Row, Stack, columns, rows
from benchmarks.charts import (
    HEIGHT,
    WIDTH,
    Mark,
    Point,
    Scale,
    Series,
    line_chart,
    linear,
    logarithmic,
    nice_step,
    number_text,
    spanning,
)


def elements(svg: str, name: str, css: str) -> list[ElementTree.Element]:
    return [node for node in ElementTree.fromstring(svg).iter(name) if css in (node.get("class") or "").split()]


def test_a_linear_scale_begins_at_zero_and_ends_at_a_round_value() -> None:
    scale = linear([3, 47], 0, 100)
    assert (scale.low, scale.high) == (0, 50)
    assert [scale.px(value) for value in (0, 25, 50)] == [0, 50, 100]
    assert scale.ticks() == [0, 10, 20, 30, 40, 50]


def test_a_logarithmic_scale_gives_equal_ratios_equal_lengths() -> None:
    scale = logarithmic([7, 130], 0, 100)
    assert (scale.low, scale.high) == (5, 200)
    assert scale.px(50) - scale.px(5) == pytest.approx(scale.px(100) - scale.px(10))
    assert scale.ticks() == [5, 10, 20, 50, 100, 200]


@pytest.mark.parametrize("values", [[], [0.0], [5.0], [5.0, 5.0], [1e-9], [0.0, 0.0]])
@pytest.mark.parametrize("make", [linear, logarithmic, spanning])
def test_no_values_or_equal_ones_still_have_an_axis(make: type, values: list[float]) -> None:
    scale: Scale = make(values, 0, 100)  # type: ignore[call-arg]
    assert scale.high > scale.low
    assert 2 <= len(scale.ticks()) <= 30
    assert 0 <= scale.px(5.0) <= 100


def test_steps_and_numbers_are_round() -> None:
    assert [nice_step(rough) for rough in (0.03, 1, 1.2, 4.9, 7)] == pytest.approx([0.05, 1, 2, 5, 10])
    assert [number_text(value) for value in (0, 0.25, 3.0, 12.34, 1500)] == ["0", "0.25", "3", "12.3", "1,500"]


def chart(*points: Point, mark: Mark | None = None) -> str:
    series = Series("p99", "s2", points)
    return line_chart([series], x_label="x", y_label="y", title="t", marks=[mark] if mark else [])


def test_points_stand_where_their_values_are_and_thin_ones_are_hollow() -> None:
    svg = chart(Point(0, 0), Point(50, 25, is_thin=True), Point(100, 50))
    (dot_a, dot_b), (hollow,) = elements(svg, "circle", "dot"), elements(svg, "circle", "hollow")
    middle = [(float(dot_a.get(key, "")) + float(dot_b.get(key, ""))) / 2 for key in ("cx", "cy")]
    assert [float(hollow.get(key, "")) for key in ("cx", "cy")] == pytest.approx(middle, abs=0.1)
    assert float(dot_a.get("cy", "")) > float(dot_b.get("cy", "")), "more is higher up"


def test_a_missing_value_breaks_the_line() -> None:
    (path,) = elements(chart(Point(0, 1), Point(1, None), Point(2, 1), Point(3, 2)), "path", "line")
    assert re.sub(r"[\d. ]", "", path.get("d") or "") == "MML"


def test_an_interval_is_a_whisker_and_a_mark_lies_within_the_chart() -> None:
    svg = chart(Point(10, 20, low=18, high=24), mark=Mark(33.3, "33.3 ms"))
    (whisker,) = elements(svg, "line", "whisker")
    (dot,) = elements(svg, "circle", "dot")
    assert float(whisker.get("y2", "")) < float(dot.get("cy", "")) < float(whisker.get("y1", ""))
    (mark,) = elements(svg, "line", "mark")
    assert 0 < float(mark.get("y1", "")) < float(whisker.get("y2", "")) < HEIGHT


def test_columns_are_as_high_as_their_values() -> None:
    stacks = [Stack("a", [("s1", 30), ("s2", 10)]), Stack("b", [("s1", 15)])]
    svg = columns(stacks, names=[("one", "s1")], x_label="x", y_label="y", title="t")
    heights = [float(bar.get("height", "")) for bar in elements(svg, "rect", "fill")]
    assert heights[0] == pytest.approx(2 * heights[2], abs=0.2)
    assert heights[0] == pytest.approx(3 * (heights[1] + 1.5), abs=0.2), "but for the gap between parts"


def test_a_waterfall_goes_on_where_it_stopped() -> None:
    svg = rows([Row("a", 0, 3, "s1", "3"), Row("b", 3, 4, "s2", "1")], x_label="ms", title="t")
    first, second = elements(svg, "rect", "fill")
    assert float(first.get("x", "")) + float(first.get("width", "")) == pytest.approx(
        float(second.get("x", "")), abs=0.2
    )
    assert float(second.get("x", "")) + float(second.get("width", "")) < WIDTH


def test_text_from_outside_cannot_become_markup() -> None:
    svg = rows([Row("<b>&", 0, 1, "s1", "<script>")], x_label="<", title='"')
    assert "<script>" not in svg
    assert [node.text for node in elements(svg, "text", "key")] == ["<b>&"]
