"""Line charts as SVG text, drawn here so that a report needs no package, no script and no network to be looked at.

Colors are CSS classes (``page.css``), so that one picture serves light and dark. All text is escaped.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 24, 16, 46
#: Room for a character of a label, and for a line of labels.
GLYPH_PX, ROW_PX = 6.6, 17


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a line; ``y`` None breaks the line."""

    x: float
    y: float | None
    is_thin: bool = False
    """Drawn hollow: too few samples behind it."""
    low: float | None = None
    high: float | None = None
    """Ends of a confidence interval."""
    note: str = ""
    """Shown when the pointer rests on it."""
    text: str = ""
    """Written beside it."""


@dataclass(frozen=True, slots=True)
class Series:
    """A line with a name and one of the classes ``s1`` to ``s4``."""

    name: str
    css: str
    points: Sequence[Point]
    has_dots: bool = True
    has_line: bool = True


@dataclass(frozen=True, slots=True)
class Mark:
    """A straight line across the chart with a word beside it."""

    at: float
    text: str
    is_vertical: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to pixels along one axis."""

    low: float
    high: float
    begin_px: float
    end_px: float
    is_log: bool = False

    def px(self, value: float) -> float:
        """Where a value lies; outside the range it stays at the nearer end."""
        inside = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        return self.begin_px + share * (self.end_px - self.begin_px)

    def ticks(self) -> list[float]:
        """Round values within the range, four to eight of them where that can be."""
        if not self.is_log:
            step = nice_step((self.high - self.low) / 5)
            first = math.ceil(self.low / step - 1e-9)
            return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1, 2, 5) if self.high / self.low < 1e4 else (1,)
        found = [factor * 10.0**decade for decade in decades for factor in factors]
        return [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]


def nice_step(rough: float) -> float:
    """The next 1, 2 or 5 times a power of ten at or above a positive distance."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= rough * 0.999), 10 * power)


def number_text(value: float) -> str:
    """A figure as people write it: 0.25, 3.5, 12, 1,500."""
    if value == 0:
        return "0"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def linear(values: Sequence[float], begin_px: float, end_px: float) -> Scale:
    """From zero to a round value at or above the largest."""
    largest = max([value for value in values if math.isfinite(value)], default=0.0) or 1.0
    step = nice_step(largest / 5)
    return Scale(0.0, math.ceil(largest / step - 1e-9) * step, begin_px, end_px)


def spanning(values: Sequence[float], begin_px: float, end_px: float) -> Scale:
    """Round values around the smallest and the largest: for what has no zero worth showing, as memory."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    step = nice_step(max(high - low, abs(high) * 0.02, 1e-9) / 4)
    low_end, high_end = math.floor(low / step) * step, math.ceil(high / step) * step
    return Scale(low_end, high_end if high_end > low_end else low_end + step, begin_px, end_px)


def logarithmic(values: Sequence[float], begin_px: float, end_px: float) -> Scale:
    """From a 1, 2 or 5 below the smallest positive value to one above the largest."""
    positive = [value for value in values if value > 0]
    low, high = min(positive, default=1.0), max(positive, default=10.0)
    steps = [factor * 10.0**decade for decade in range(-7, 10) for factor in (1, 2, 5)]
    low_end = max((step for step in steps if step <= low), default=steps[0])
    high_end = min((step for step in steps if step >= high), default=steps[-1])
    return Scale(low_end, high_end if high_end > low_end else low_end * 10, begin_px, end_px, is_log=True)


ScaleOf = Callable[[Sequence[float], float, float], Scale]


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_scale: ScaleOf = linear,
    y_scale: ScaleOf = linear,
    marks: Sequence[Mark] = (),
    height: int = HEIGHT,
    title: str,
) -> str:
    """An SVG with axes, a grid, the lines and a legend above; ``title`` is for readers who do not see it."""
    points = [point for one in series for point in one.points]
    x_values = [point.x for point in points] + [mark.at for mark in marks if mark.is_vertical]
    y_values = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    y_values += [mark.at for mark in marks if not mark.is_vertical]
    top = TOP + (18 if len(series) > 1 else 0)
    x = x_scale(x_values, LEFT, WIDTH - RIGHT)
    y = y_scale(y_values, height - BOTTOM, top)
    parts = [_axes(x, y, x_label, y_label, top, height), *_marks(marks, x, y, top, height)]
    parts += _labels([(x.px(one.x), y.px(one.y), one.text) for one in points if one.text and one.y is not None], top)
    parts += [_line(one, x, y) for one in series]
    if len(series) > 1:
        parts.append(legend([(one.name, one.css) for one in series]))
    return svg(parts, height, title)


def svg(parts: Sequence[str], height: float, title: str) -> str:
    """The parts as one picture of `WIDTH` by ``height`` that scales with the page."""
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">' + "".join(parts) + "</svg>"


def text_at(x: float, y: float, text: str, css: str = "tick", anchor: str = "middle") -> str:
    """A line of text."""
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def line_at(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Names with their color, in a row at the top."""
    parts, x = [], float(LEFT)
    for name, css in entries:
        parts.append(f'<rect class="fill {css}" x="{x:.1f}" y="6" width="14" height="4" rx="2"/>')
        parts.append(text_at(x + 19, 12, name, "key", "start"))
        x += 19 + 6.6 * len(name) + 22
    return "".join(parts)


def _axes(x: Scale, y: Scale, x_label: str, y_label: str, top: float, height: float) -> str:
    bottom = height - BOTTOM
    parts = []
    for value in y.ticks():
        at = y.px(value)
        parts += [
            line_at(LEFT, at, WIDTH - RIGHT, at, "grid"),
            text_at(LEFT - 8, at + 4, number_text(value), "tick", "end"),
        ]
    parts.append(line_at(LEFT, bottom, WIDTH - RIGHT, bottom, "axis"))
    parts += [text_at(x.px(value), bottom + 17, number_text(value)) for value in x.ticks()]
    parts.append(text_at((LEFT + WIDTH - RIGHT) / 2, height - 8, x_label, "label"))
    middle = (top + bottom) / 2
    parts.append(
        f'<text class="label" transform="translate(14 {middle:.1f}) rotate(-90)"'
        f' text-anchor="middle">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _marks(marks: Sequence[Mark], x: Scale, y: Scale, top: float, height: float) -> list[str]:
    parts = []
    for mark in marks:
        if mark.is_vertical:
            at = x.px(mark.at)
            is_left = at > WIDTH * 0.6
            parts += [
                line_at(at, top, at, height - BOTTOM, "mark"),
                text_at(at + (-5 if is_left else 5), top + 11, mark.text, "note", "end" if is_left else "start"),
            ]
        else:
            at = y.px(mark.at)
            parts += [
                line_at(LEFT, at, WIDTH - RIGHT, at, "mark"),
                text_at(LEFT + 6, at - 5, mark.text, "note", "start"),
            ]
    return parts


def _line(one: Series, x: Scale, y: Scale) -> str:
    parts, path, pen_is_down = [], [], False
    for point in one.points:
        if point.y is None:
            pen_is_down = False
            continue
        path.append(f"{'L' if pen_is_down else 'M'}{x.px(point.x):.1f} {y.px(point.y):.1f}")
        pen_is_down = True
    if one.has_line:
        parts.append(f'<path class="line {one.css}" d="{" ".join(path)}"/>')
    for point in one.points:
        if point.y is None:
            continue
        at_x, at_y = x.px(point.x), y.px(point.y)
        if point.low is not None and point.high is not None:
            parts.append(line_at(at_x, y.px(point.low), at_x, y.px(point.high), f"whisker {one.css}"))
        is_alone = len(one.points) == 1
        if one.has_dots or is_alone:
            css = "hollow" if point.is_thin else "dot"
            parts.append(
                f'<circle class="{css} {one.css}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="4">'
                f"<title>{escape(point.note or one.name)}</title></circle>"
            )
    return "".join(parts)


def _labels(points: Sequence[tuple[float, float, str]], top: float) -> list[str]:
    """Words beside their points, out of one another's way, with a thin line where one had to move."""
    parts, taken = [], [(at_x - 6, at_y - 6, at_x + 6, at_y + 6) for at_x, at_y, _ in points]
    for at_x, at_y, text in sorted(points, key=lambda point: (point[1], point[0])):
        width = GLYPH_PX * len(text)
        is_left = at_x + 18 + width > WIDTH - RIGHT
        # Nearest first: in line with the point, then a row below, a row above, and so on.
        for step in range(2 * len(points) + 2):
            word_y = at_y + (step + 1) // 2 * ROW_PX * (1 if step % 2 else -1)
            near_x = at_x + (-9 if is_left else 9) * (1 if step == 0 else 2)
            left = near_x - width if is_left else near_x
            box = (left, word_y - 8, left + width, word_y + 7)
            is_free = all(
                box[2] < other[0] or other[2] < box[0] or box[3] < other[1] or other[3] < box[1] for other in taken
            )
            if is_free and box[1] > top:
                break
        taken.append(box)
        if step:
            parts.append(line_at(at_x, at_y, near_x, word_y, "leader"))
        parts.append(text_at(near_x, word_y + 4, text, "note", "end" if is_left else "start"))
    return parts
