"""Charts as static SVG, in a size that a phone shows without shrinking them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from markupsafe import Markup

from crescent.report.svg import (
    BOTTOM,
    CHARACTER,
    HEIGHT,
    LEFT,
    TOP,
    WIDTH,
    Mark,
    Tone,
    add_tooltip,
    draw_box,
    draw_line,
    draw_mark,
    draw_text,
    fill,
    markup,
    spaced,
    svg_of,
    word_of,
)

LABEL_ROOM = 58
"""Pixels right of a plot for the names of its lines."""
NUMBER_MARGIN = 20
"""Pixels beside the first and the last number of a numeric axis."""


@dataclass(frozen=True)
class Point:
    """One value. `x` counts categories from 0; fractions lie between two."""

    x: float
    y: float
    tooltip: str
    low: float | None = None
    high: float | None = None
    mark: Mark = "dot"


@dataclass(frozen=True)
class Line:
    """Points, joined by a line or not."""

    name: str
    """Name at its right end; may be empty."""
    points: tuple[Point, ...]
    tone: Tone = "main"
    joined: bool = True
    marked: bool = True
    """Whether each point has a mark; without, only the line is drawn."""


@dataclass(frozen=True)
class Level:
    """A horizontal line across a plot, to compare values with."""

    name: str
    y: float


@dataclass(frozen=True)
class Layer:
    """One part of every column of a stack."""

    name: str
    values: tuple[float, ...]
    pattern: int = 0
    """Number of its pattern, below `LAYERS`; the same thing has the same pattern in all charts of a page."""


def line_plot(
    lines: Sequence[Line],
    across: Sequence[str] | Sequence[tuple[float, str]],
    written: Callable[[float], str],
    levels: Sequence[Level] = (),
    x_title: str = "",
    bounds: tuple[float, float] | None = None,
    least_span: float = 0.0,
    zero: bool = False,
    beside: Sequence[float] = (),
) -> Markup:
    """Values over categories or numbers, with intervals.

    Args:
        across: Categories; or places on an axis from 0 to 1 with their labels, and then points' `x` are places, too.
        written: Writes a value of the y axis.
        bounds: Range of possible values; the axis does not go beyond it.
        least_span: Least height of the y axis, so that noise does not fill the picture.
        zero: Draw a line at y = 0, and include it in the picture.
        beside: Values of neighbouring charts that have the same y axis.
    """
    points = [point for line in lines for point in line.points]
    values = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    everything = [*values, *(level.y for level in levels), *([0.0] if zero else []), *beside]
    low, high = _span(everything, bounds, least_span)
    steps = ticks(low, high, 5)
    low, high = min(low, steps[0]), max(high, steps[-1])
    named = [line.name for line in lines if line.name] + [level.name for level in levels]
    right = LABEL_ROOM if named else 12

    width = WIDTH - LEFT - right
    categories = [category for category in across if isinstance(category, str)]
    numbers = [number for number in across if not isinstance(number, str)]

    def x(place: float) -> float:
        if numbers:
            return LEFT + NUMBER_MARGIN + (width - 2 * NUMBER_MARGIN) * place
        return LEFT + width / len(categories) * (place + 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))

    svg = svg_of(WIDTH, HEIGHT)
    for step in steps:
        draw_line(svg, "grid", LEFT, y(step), WIDTH - right, y(step))
        draw_text(svg, "tick end", LEFT - 6, y(step) + 4, written(step))
    if zero:
        draw_line(svg, "zero", LEFT, y(0), WIDTH - right, y(0))
    if numbers:
        _draw_numbers(svg, numbers, x, y(low), x_title)
    else:
        _draw_categories(svg, categories, x, width / len(categories), x_title)
    labels: list[tuple[float, str, str]] = []
    for level in levels:
        draw_line(svg, "level", LEFT, y(level.y), WIDTH - right, y(level.y))
        labels.append((y(level.y), level.name, "level-name"))
    for line in lines:
        _draw(svg, line, x, y)
        if line.name and line.points:
            labels.append((y(line.points[-1].y), line.name, f"name {line.tone}"))
    for height, name, kind in spaced(labels):
        draw_text(svg, kind, WIDTH - right + 5, height + 4, name)
    return markup(svg)


def stack_plot(layers: Sequence[Layer], categories: Sequence[str], x_title: str, highest: float) -> Markup:
    """Stacked columns of counts, each layer with its own pattern (see `layer_legend`).

    Args:
        highest: Height of the highest column of all charts that are to be compared with this one.
    """
    steps = ticks(0, max(highest, 1), 4)
    high = steps[-1]
    room = (WIDTH - LEFT - 12) / len(categories)

    def x(place: float) -> float:
        return LEFT + room * (place + 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / high)

    svg = svg_of(WIDTH, HEIGHT)
    for step in steps:
        draw_line(svg, "grid", LEFT, y(step), WIDTH - 12, y(step))
        draw_text(svg, "tick end", LEFT - 6, y(step) + 4, f"{step:g}")
    for place, name in enumerate(categories):
        below = 0.0
        for layer in layers:
            if value := layer.values[place]:
                top = y(below + value)
                box = draw_box(svg, x(place) - room * 0.4, top, room * 0.8, y(below) - top)
                fill(box, layer.pattern)
                add_tooltip(box, f"{name}: {value:g} {layer.name}")
                below += value
    _draw_categories(svg, categories, x, room, x_title)
    return markup(svg)


def bar(share: float) -> Markup:
    """A horizontal bar for a cell of a table; `share` of its full length, in [0, 1]."""
    svg = svg_of(120, 12)
    svg.set("class", "cell-bar")
    draw_box(svg, 0, 1, 120, 10).set("class", "bar-ground")
    draw_box(svg, 0, 1, max(0.0, min(1.0, share)) * 120, 10).set("class", "bar")
    return markup(svg)


def interval_picture(value: float, low: float, high: float, domain: tuple[float, float], mark: Mark = "dot") -> Markup:
    """A value with its interval on a line of its own, with zero marked, for a cell of a table."""
    first, last = domain
    svg = svg_of(160, 18)
    svg.set("class", "cell-interval")

    def x(number: float) -> float:
        return 8 + 144 * (min(max(number, first), last) - first) / ((last - first) or 1)

    draw_line(svg, "grid", 8, 9, 152, 9)
    if first <= 0 <= last:
        draw_line(svg, "zero", x(0), 1, x(0), 17)
    draw_line(svg, "whisker main", x(low), 9, x(high), 9)
    draw_mark(svg, mark, x(value), 9, "main")
    return markup(svg)


def layer_legend(layers: Sequence[Layer]) -> list[tuple[Markup, str]]:
    """A swatch for each layer of a stack, in order, with its name."""
    swatches = []
    for layer in layers:
        svg = svg_of(16, 12)
        fill(draw_box(svg, 0.5, 0.5, 15, 11), layer.pattern)
        swatches.append((markup(svg), layer.name))
    return swatches


def mark_legend(marks: Sequence[Mark]) -> list[tuple[Markup, str]]:
    """A swatch for each kind of mark."""
    swatches = []
    for mark in marks:
        svg = svg_of(16, 12)
        draw_mark(svg, mark, 8, 6, "main")
        swatches.append((markup(svg), word_of(mark)))
    return swatches


def line_legend(tone: Tone, name: str) -> tuple[Markup, str]:
    """A swatch for a line without marks."""
    svg = svg_of(16, 12)
    draw_line(svg, f"line {tone}", 0, 6, 16, 6)
    return markup(svg), name


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from below `low` to above `high`, about `count` (Heckbert 1990, Nice Numbers for Graph Labels)."""
    rough = (high - low or 1) / max(1, count - 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in (1, 2, 2.5, 5, 10) if nice * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * place, 10) for place in range(first, max(last, first + 1) + 1)]


def _span(values: Sequence[float], bounds: tuple[float, float] | None, least: float) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    missing = max(0.0, (least or abs(high) * 0.2 or 1.0) - (high - low))
    low, high = low - missing / 2, high + missing / 2
    if bounds is None:
        return low, high
    shift = max(0.0, bounds[0] - low) - max(0.0, high - bounds[1])
    return max(bounds[0], low + min(0.0, shift)), min(bounds[1], high + max(0.0, shift))


def _draw(svg: Element, line: Line, x: Callable[[float], float], y: Callable[[float], float]) -> None:
    if line.joined and len(line.points) > 1:
        path = " ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point in line.points)
        SubElement(svg, "polyline", {"points": path, "class": f"line {line.tone}", "fill": "none"})
    for point in line.points if line.marked else ():
        group = SubElement(svg, "g")
        add_tooltip(group, point.tooltip)
        if point.low is not None and point.high is not None:
            draw_line(group, f"whisker {line.tone}", x(point.x), y(point.low), x(point.x), y(point.high))
        if line.tone != "ghost":
            draw_mark(group, point.mark, x(point.x), y(point.y), line.tone)


def _draw_categories(svg: Element, names: Sequence[str], x: Callable[[float], float], room: float, title: str) -> None:
    """Names below the plot: as many as fit without touching."""
    widest = max(len(name) for name in names) * CHARACTER + 6
    every = max(1, math.ceil(widest / room))
    for place, name in enumerate(names):
        if place % every == 0:
            draw_text(svg, "tick middle", x(place), HEIGHT - BOTTOM + 15, name)
    if title:
        draw_text(svg, "axis middle", (x(0) + x(len(names) - 1)) / 2, HEIGHT - 4, title)


def _draw_numbers(
    svg: Element, numbers: Sequence[tuple[float, str]], x: Callable[[float], float], y: float, title: str
) -> None:
    """Numbers below the plot: the first, the last, and between them those that touch no other."""
    places = sorted(numbers)
    kept = [places[-1]]
    for place, text in places[:-1]:
        gaps = [abs(x(place) - x(other)) - (len(text) + len(label)) * CHARACTER / 2 - 6 for other, label in kept]
        if min(gaps) >= 0 or place == places[0][0]:
            kept.append((place, text))
    for place, text in places:
        draw_line(svg, "axis-line", x(place), y, x(place), y + 4)
        if (place, text) in kept:
            draw_text(svg, "tick middle", x(place), HEIGHT - BOTTOM + 15, text)
    if title:
        draw_text(svg, "axis middle", (x(0) + x(1)) / 2, HEIGHT - 4, title)
