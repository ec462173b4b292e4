"""Bars, waterfalls and ranges as SVG text; see `charts`."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    legend,
    line_at,
    linear,
    number_text,
    svg,
    text_at,
)

#: Height of a row with a name to its left, and the width of the names.
ROW_PX, NAMES_PX = 26, 128


@dataclass(frozen=True, slots=True)
class Stack:
    """A column of parts, each with a class and a value."""

    label: str
    parts: Sequence[tuple[str, float]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A bar from ``begin`` to ``end`` beside its name, with words to its right."""

    label: str
    begin: float
    end: float
    css: str
    text: str
    middle: float | None = None
    """Where a tick is drawn on the bar."""


def columns(
    stacks: Sequence[Stack],
    *,
    names: Sequence[tuple[str, str]],
    x_label: str,
    y_label: str,
    title: str,
    height: int = HEIGHT,
) -> str:
    """Stacked columns side by side; ``names`` (name, class) make the legend where there are several."""
    top = TOP + (18 if len(names) > 1 else 0)
    bottom = height - BOTTOM
    y = linear([sum(value for _, value in stack.parts) for stack in stacks], bottom, top)
    parts = []
    for value in y.ticks():
        at = y.px(value)
        parts.append(line_at(LEFT, at, WIDTH - RIGHT, at, "grid"))
        parts.append(text_at(LEFT - 8, at + 4, number_text(value), "tick", "end"))
    step = (WIDTH - LEFT - RIGHT) / max(1, len(stacks))
    width = min(64.0, step * 0.62)
    # A dense row of columns has room for every n-th label only.
    every = max(1, round(44 / step))
    for number, stack in enumerate(stacks):
        middle, below = LEFT + (number + 0.5) * step, 0.0
        for css, value in stack.parts:
            high, low = y.px(below + value), y.px(below)
            # A gap of the page's color keeps touching parts apart.
            shown = max(low - high - (1.5 if below and low - high > 3 else 0), 0.0)
            parts.append(
                f'<rect class="fill {css}" x="{middle - width / 2:.1f}" y="{high:.1f}" width="{width:.1f}"'
                f' height="{shown:.1f}" rx="1.5"><title>{escape(stack.note or stack.label)}</title></rect>'
            )
            below += value
        if number % every == 0:
            parts.append(text_at(middle, bottom + 17, stack.label))
    parts.append(line_at(LEFT, bottom, WIDTH - RIGHT, bottom, "axis"))
    parts.append(text_at((LEFT + WIDTH - RIGHT) / 2, height - 8, x_label, "label"))
    parts.append(
        f'<text class="label" transform="translate(14 {(top + bottom) / 2:.1f}) rotate(-90)"'
        f' text-anchor="middle">{escape(y_label)}</text>'
    )
    if len(names) > 1:
        parts.append(legend(names))
    return svg(parts, height, title)


def rows(entries: Sequence[Row], *, x_label: str, title: str) -> str:
    """Bars one below the other on a common axis that begins at zero: a waterfall, or ranges."""
    text_px = 8 + 6.3 * max((len(entry.text) for entry in entries), default=0)
    height = TOP + ROW_PX * len(entries) + BOTTOM
    bottom = height - BOTTOM
    x = linear([entry.end for entry in entries], NAMES_PX, WIDTH - text_px)
    parts = []
    for value in x.ticks():
        at = x.px(value)
        parts.append(line_at(at, TOP - 4, at, bottom, "grid"))
        parts.append(text_at(at, bottom + 17, number_text(value)))
    for number, entry in enumerate(entries):
        top = TOP + number * ROW_PX
        begin, end = x.px(entry.begin), x.px(entry.end)
        parts.append(text_at(NAMES_PX - 10, top + 14, entry.label, "key", "end"))
        parts.append(
            f'<rect class="fill {entry.css}" x="{begin:.1f}" y="{top + 2:.1f}" width="{max(end - begin, 1.5):.1f}"'
            f' height="{ROW_PX - 9}" rx="2"><title>{escape(entry.label)}: {escape(entry.text)}</title></rect>'
        )
        if entry.middle is not None:
            at = x.px(entry.middle)
            parts.append(line_at(at, top, at, top + ROW_PX - 5, "tickmark"))
        parts.append(text_at(max(end, begin + 1.5) + 7, top + 14, entry.text, "note", "start"))
    parts.append(line_at(NAMES_PX, bottom, x.px(x.high), bottom, "axis"))
    parts.append(text_at((NAMES_PX + x.px(x.high)) / 2, height - 8, x_label, "label"))
    return svg(parts, height, title)
