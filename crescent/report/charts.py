"""Charts as SVG elements, in a size that a phone shows without shrinking them.

Everything that has a colour also has a shape, a pattern or a word; colours themselves are those of the page's style, so
that a chart is dark where the page is dark. Text goes through the XML library, which escapes it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from markupsafe import Markup

from crescent.report.texts import plain

WIDTH, HEIGHT = 360, 220
LEFT, TOP, BOTTOM = 40, 14, 34
LABEL_ROOM = 58
"""Right of a plot, for the names of its lines."""
LAYERS = 6
"""Different patterns there are for the layers of a stack."""
LABEL_STEP = 13
"""Least distance of two names, in pixels."""
CHARACTER = 6.2
"""Width of a character of a label, in pixels, about."""
AXIS_HEIGHT, AXIS_TOP, AXIS_ROOM = 300, 40, 20
"""Of parallel axes: with the two lines of their names, and beyond their first and last value."""
ASIDE_OF_NUMBERS = 20
"""Pixels beside the first and the last number of a numeric axis."""
HEAVY = 1.15
"""How much wider a character of an axis's name is than one of a label."""
STEPS = 5
"""Colours there are for a value, from low to high."""
ASIDE = 4.0
"""Pixels between two lines that meet an axis at the same value, at most."""
NUMBERED = 20
"""Lines that have room for a number at their ends."""

Mark = Literal["accept", "retry", "roll back", "stop", "base", "dot"]
MARKED: dict[Mark, str] = {"accept": "accepted", "roll back": "rolled back", "retry": "retried", "stop": "stopped"}
Tone = Literal["main", "second", "third", "ghost"]


@dataclass(frozen=True)
class Point:
    """One value. `x` counts categories from 0; fractions lie between two."""

    x: float
    y: float
    says: str
    """What a mouse that rests on it is told."""
    low: float | None = None
    high: float | None = None
    mark: Mark = "dot"


@dataclass(frozen=True)
class Line:
    """Points, and whether a line goes through them."""

    name: str
    """At its right end; empty for none."""
    points: tuple[Point, ...]
    tone: Tone = "main"
    joined: bool = True


@dataclass(frozen=True)
class Level:
    """A horizontal line across a plot: a yardstick."""

    name: str
    y: float


@dataclass(frozen=True)
class Layer:
    """One part of every column of a stack."""

    name: str
    values: tuple[float, ...]
    pattern: int = 0
    """Below `LAYERS`: the same thing looks the same in all charts of a page."""


@dataclass(frozen=True)
class Axis:
    """One of several parallel axes."""

    prefix: str
    name: str
    """Stands below the prefix."""
    says: str
    ticks: tuple[tuple[float, str], ...]
    """Where on the axis, from 0 to 1, and what stands there."""


@dataclass(frozen=True)
class Track:
    """A line through parallel axes."""

    says: str
    places: tuple[float | None, ...]
    """On each axis, from 0 to 1; where one is not known, the line has a gap."""
    step: int | None
    """Its colour, below `STEPS`; `None` for none."""
    mark: Mark = "accept"
    label: str = ""
    """At its end."""


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
        across: Categories; or what stands where on an axis from 0 to 1. Then points' `x` are on it, too.
        written: How a value of the y axis is written.
        bounds: What values can be at all; the axis does not leave them.
        least_span: Height of the y axis at least, so that noise does not fill the picture.
        zero: Draw a line where y is 0, and have it in the picture.
        beside: Values of the charts beside it, whose y axis is to be the same.
    """
    values = [its for line in lines for p in line.points for its in (p.y, p.low, p.high) if its is not None]
    low, high = _span([*values, *(its.y for its in levels), *([0.0] if zero else []), *beside], bounds, least_span)
    steps = ticks(low, high, 5)
    low, high = min(low, steps[0]), max(high, steps[-1])
    named = [its.name for its in lines if its.name] + [its.name for its in levels]
    right = LABEL_ROOM if named else 12

    width = WIDTH - LEFT - right
    categories = [its for its in across if isinstance(its, str)]
    marks = [its for its in across if not isinstance(its, str)]

    def x(place: float) -> float:
        if marks:
            return LEFT + ASIDE_OF_NUMBERS + (width - 2 * ASIDE_OF_NUMBERS) * place
        return LEFT + width / len(categories) * (place + 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))

    svg = _svg(WIDTH, HEIGHT)
    for step in steps:
        _line(svg, "grid", LEFT, y(step), WIDTH - right, y(step))
        _text(svg, "tick end", LEFT - 6, y(step) + 4, written(step))
    if zero:
        _line(svg, "zero", LEFT, y(0), WIDTH - right, y(0))
    if marks:
        _numbers(svg, marks, x, y(low), x_title)
    else:
        _categories(svg, categories, x, width / len(categories), x_title)
    labels: list[tuple[float, str, str]] = []
    for level in levels:
        _line(svg, "level", LEFT, y(level.y), WIDTH - right, y(level.y))
        labels.append((y(level.y), level.name, "level-name"))
    for line in lines:
        _draw(svg, line, x, y)
        if line.name and line.points:
            labels.append((y(line.points[-1].y), line.name, f"name {line.tone}"))
    for height, name, kind in _apart(labels):
        _text(svg, kind, WIDTH - right + 5, height + 4, name)
    return _markup(svg)


def stack_plot(layers: Sequence[Layer], categories: Sequence[str], x_title: str, highest: float) -> Markup:
    """Columns of counts, one on top of the other, each layer with its own pattern (see `legend`).

    Args:
        highest: The highest column of all charts that are to be compared with this one.
    """
    steps = ticks(0, max(highest, 1), 4)
    high = steps[-1]
    room = (WIDTH - LEFT - 12) / len(categories)

    def x(place: float) -> float:
        return LEFT + room * (place + 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / high)

    svg = _svg(WIDTH, HEIGHT)
    for step in steps:
        _line(svg, "grid", LEFT, y(step), WIDTH - 12, y(step))
        _text(svg, "tick end", LEFT - 6, y(step) + 4, f"{step:g}")
    for place, name in enumerate(categories):
        below = 0.0
        for layer in layers:
            if value := layer.values[place]:
                box = _box(svg, x(place) - room * 0.4, y(below + value), room * 0.8, y(below) - y(below + value))
                _fill(box, layer.pattern)
                _says(box, f"{name}: {value:g} {layer.name}")
                below += value
    _categories(svg, categories, x, room, x_title)
    return _markup(svg)


def parallel_plot(axes: Sequence[Axis], tracks: Sequence[Track], scale: tuple[float, float] | None) -> Markup:
    """Lines through vertical axes, as wide as the names need. Lines that meet at a value lie side by side there.

    Args:
        scale: From where to where on the last axis the colours of the tracks go; `None` where there is only one.
    """
    labelled = any(its.label for its in tracks)
    across = _axis_places(axes)
    first, last = AXIS_TOP + AXIS_ROOM, AXIS_HEIGHT - AXIS_ROOM - 4

    def y(place: float) -> float:
        return last - (last - first) * place

    svg = _svg(math.ceil(across[-1] + max(_room(axes[-1]), 46 if labelled else 16)), AXIS_HEIGHT)
    for x in across:
        _line(svg, "axis-line", x, first - AXIS_ROOM + 4, x, last + AXIS_ROOM - 4)
    heights = [_side_by_side([its.places[nth] for its in tracks], y) for nth in range(len(axes))]
    ends: list[tuple[float, str, str]] = []
    # The highest last, so that it lies on top.
    for nth in sorted(range(len(tracks)), key=lambda its: -1 if (step := tracks[its].step) is None else step):
        track, found = tracks[nth], [its[nth] for its in heights]
        _draw_track(svg, track, list(zip(across, found, strict=True)))
        if track.label and (end := found[-1]) is not None:
            ends.append((end, track.label, "name"))
    for step in range(STEPS if scale else 0):
        low, high = scale or (0.0, 0.0)
        edges = [y(low + (high - low) * its / STEPS) for its in (step + 1, step)]
        _box(svg, across[-1] + 8, edges[0], 4, edges[1] - edges[0]).set("class", f"step step-{step}")
    for (end, *_), (height, label, kind) in zip(sorted(ends), _apart(ends, AXIS_HEIGHT - 8), strict=True):
        _line(svg, "axis-line", across[-1] + 14, end, across[-1] + 24, height)
        _text(svg, kind, across[-1] + 27, height + 4, label)
    for x, axis in zip(across, axes, strict=True):
        group = SubElement(svg, "g")
        _says(group, axis.says)
        _text(group, "tick middle", x, 14, axis.prefix)
        _text(group, "axis-name middle", x, 28, axis.name)
        for place, label in _thinned(axis.ticks, abs(last - first)):
            _line(svg, "axis-line", x - 4, y(place), x, y(place))
            _text(svg, "tick end over", x - 7, y(place) + 4, label)
    return _markup(svg)


def track_legend(marks: Sequence[Mark]) -> list[tuple[Markup, str]]:
    """A swatch for each way a track can look."""
    found = []
    for its in marks:
        svg = _svg(34, 12)
        end: list[tuple[float, float | None]] = [(34, None)] if its == "dot" else []
        _draw_track(svg, Track("", (), None if its == "dot" else STEPS - 1, its), [(2, 6), (28, 6), *end])
        found.append((_markup(svg), MARKED.get(its, its)))
    return found


def legend(layers: Sequence[Layer]) -> list[tuple[Markup, str]]:
    """A swatch for each layer of a stack, in order, with its name."""
    found = []
    for its in layers:
        svg = _svg(16, 12)
        _fill(_box(svg, 0.5, 0.5, 15, 11), its.pattern)
        found.append((_markup(svg), its.name))
    return found


def mark_legend(marks: Sequence[Mark]) -> list[tuple[Markup, str]]:
    """A swatch for each way a point can look."""
    found = []
    for its in marks:
        svg = _svg(16, 12)
        _mark(svg, its, 8, 6, "main")
        found.append((_markup(svg), MARKED.get(its, its)))
    return found


def line_legend(tone: Tone, name: str) -> tuple[Markup, str]:
    """A swatch for a line without marks."""
    svg = _svg(16, 12)
    _line(svg, f"line {tone}", 0, 6, 16, 6)
    return _markup(svg), name


def bar(share: float, kind: str = "") -> Markup:
    """A horizontal bar for a cell of a table; `share` of its full length, in [0, 1]."""
    svg = _svg(120, 12)
    svg.set("class", "cell-bar")
    _box(svg, 0, 1, 120, 10).set("class", "bar-ground")
    _box(svg, 0, 1, max(0.0, min(1.0, share)) * 120, 10).set("class", f"bar {kind}".strip())
    return _markup(svg)


def interval(value: float, low: float, high: float, domain: tuple[float, float], mark: Mark = "dot") -> Markup:
    """A value with its interval on a line of its own, zero marked, for a cell of a table."""
    first, last = domain
    svg = _svg(160, 18)
    svg.set("class", "cell-interval")

    def x(its: float) -> float:
        return 8 + 144 * (min(max(its, first), last) - first) / ((last - first) or 1)

    _line(svg, "grid", 8, 9, 152, 9)
    if first <= 0 <= last:
        _line(svg, "zero", x(0), 1, x(0), 17)
    _line(svg, "whisker main", x(low), 9, x(high), 9)
    _mark(svg, mark, x(value), 9, "main")
    return _markup(svg)


def ticks(low: float, high: float, many: int) -> list[float]:
    """Round numbers from below `low` to above `high`, about `many` (Heckbert 1990, Nice Numbers for Graph Labels)."""
    rough = (high - low or 1) / max(1, many - 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(its * power for its in (1, 2, 2.5, 5, 10) if its * power >= rough * 0.999)
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
        path = " ".join(f"{x(p.x):.1f},{y(p.y):.1f}" for p in line.points)
        SubElement(svg, "polyline", {"points": path, "class": f"line {line.tone}", "fill": "none"})
    for point in line.points:
        group = SubElement(svg, "g")
        _says(group, point.says)
        if point.low is not None and point.high is not None:
            _line(group, f"whisker {line.tone}", x(point.x), y(point.low), x(point.x), y(point.high))
        if line.tone != "ghost":
            _mark(group, point.mark, x(point.x), y(point.y), line.tone)


def _mark(svg: Element, mark: Mark, x: float, y: float, tone: Tone) -> None:
    """Each outcome has a shape of its own."""
    kind, r = f"mark {tone}", 4.2
    match mark:
        case "roll back":
            SubElement(svg, "circle", {"cx": _n(x), "cy": _n(y), "r": _n(r), "class": f"{kind} hollow"})
        case "retry":
            corners = ((x, y - r - 0.8), (x + r + 0.8, y), (x, y + r + 0.8), (x - r - 0.8, y))
            shape = " ".join(f"{_n(across)},{_n(down)}" for across, down in corners)
            SubElement(svg, "polygon", {"points": shape, "class": f"{kind} hollow"})
        case "stop":
            _line(svg, f"{kind} cross", x - r, y - r, x + r, y + r)
            _line(svg, f"{kind} cross", x - r, y + r, x + r, y - r)
        case "base":
            _box(svg, x - r + 0.5, y - r + 0.5, 2 * r - 1, 2 * r - 1).set("class", kind)
        case _:
            SubElement(svg, "circle", {"cx": _n(x), "cy": _n(y), "r": _n(r), "class": kind})


def _categories(svg: Element, names: Sequence[str], x: Callable[[float], float], room: float, title: str) -> None:
    """Names below the plot: as many as fit without touching."""
    widest = max(len(its) for its in names) * CHARACTER + 6
    every = max(1, math.ceil(widest / room))
    for place, name in enumerate(names):
        if place % every == 0:
            _text(svg, "tick middle", x(place), HEIGHT - BOTTOM + 15, name)
    if title:
        _text(svg, "axis middle", (x(0) + x(len(names) - 1)) / 2, HEIGHT - 4, title)


def _numbers(
    svg: Element, marks: Sequence[tuple[float, str]], x: Callable[[float], float], y: float, title: str
) -> None:
    """Numbers below the plot: the first, the last, and between them those that touch none."""
    places = sorted(marks)
    kept = [places[-1]]
    for place, text in places[:-1]:
        apart = [abs(x(place) - x(other)) - (len(text) + len(its)) * CHARACTER / 2 - 6 for other, its in kept]
        if min(apart) >= 0 or place == places[0][0]:
            kept.append((place, text))
    for place, text in places:
        _line(svg, "axis-line", x(place), y, x(place), y + 4)
        if (place, text) in kept:
            _text(svg, "tick middle", x(place), HEIGHT - BOTTOM + 15, text)
    if title:
        _text(svg, "axis middle", (x(0) + x(1)) / 2, HEIGHT - 4, title)


def _axis_places(axes: Sequence[Axis]) -> list[float]:
    """Where across a picture the axes stand, with room for their names and what stands on their left."""
    left = [max((len(text) for _, text in its.ticks), default=0) * CHARACTER + 10 for its in axes]
    across = [max(_room(axes[0]), left[0])]
    for (before, now), room in zip(pairwise(axes), left[1:], strict=True):
        across.append(across[-1] + max(_room(before) + _room(now) + 4, room + 36))
    return across


def _room(axis: Axis) -> float:
    """Half the width of its name."""
    return max(len(axis.prefix), len(axis.name) * HEAVY) * CHARACTER / 2 + 4


def _side_by_side(places: Sequence[float | None], y: Callable[[float], float]) -> list[float | None]:
    """Heights on one axis: those of equal places next to each other, in order."""
    together: dict[float, list[int]] = {}
    for nth, place in enumerate(places):
        if place is not None:
            together.setdefault(place, []).append(nth)
    known = sorted(together)
    least = min((abs(y(high) - y(low)) for low, high in pairwise(known)), default=math.inf)
    heights: list[float | None] = [None] * len(places)
    for place, members in together.items():
        for nth, member in enumerate(members):
            aside = min(ASIDE, 0.7 * least / len(members), 2 * (AXIS_ROOM - 4) / len(members))
            heights[member] = y(place) + (nth - (len(members) - 1) / 2) * aside
    return heights


def _draw_track(svg: Element, track: Track, points: Sequence[tuple[float, float | None]]) -> None:
    group = SubElement(svg, "g", {"class": "track" + ("" if track.step is None else f" step-{track.step}")})
    if track.says:
        _says(group, track.says)
    dashed = {"accept": "", "dot": " unknown"}.get(track.mark, " dashed")
    for known, run in groupby(points, lambda its: its[1] is not None):
        parts = [(x, y) for x, y in run if y is not None]
        if known and len(parts) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in parts)
            SubElement(group, "polyline", {"points": path, "class": f"track-line{dashed}", "fill": "none"})
            # A mouse need not meet a thin line exactly.
            SubElement(group, "polyline", {"points": path, "class": "near", "fill": "none"})
        for x, y in parts if known else []:
            if x == points[-1][0]:
                _mark(group, track.mark, x, y, "main")
            else:
                SubElement(group, "circle", {"cx": _n(x), "cy": _n(y), "r": "2", "class": "knot"})


def _thinned(ticks: Sequence[tuple[float, str]], length: float) -> list[tuple[float, str]]:
    """Those that have room: the first, the last, and between them what touches none before it."""
    kept: list[tuple[float, str]] = []
    for place, text in sorted(ticks):
        free = all(abs(place - other) * length >= LABEL_STEP for other, _ in (*kept, sorted(ticks)[-1]))
        if not kept or free or (place, text) == sorted(ticks)[-1]:
            kept.append((place, text))
    return kept


def _apart(labels: Sequence[tuple[float, str, str]], end: float = HEIGHT - BOTTOM) -> list[tuple[float, str, str]]:
    """The labels, from the lowest up, moved so that none lies on another."""
    placed: list[tuple[float, str, str]] = []
    for height, name, kind in sorted(labels):
        above = placed[-1][0] + LABEL_STEP if placed else TOP - 4.0
        placed.append((max(height, above), name, kind))
    over = (placed[-1][0] - end) if placed else 0
    return [(height - max(0, over), name, kind) for height, name, kind in placed]


def patterns() -> Markup:
    """What the layers of all stacks are filled with, once for a page: solid, stripes, dots, crosses, bars, empty."""
    svg = _svg(0, 0)
    svg.set("class", "patterns")
    definitions = SubElement(svg, "defs")
    for depth in range(LAYERS):
        size = {"width": "6", "height": "6", "patternUnits": "userSpaceOnUse"}
        pattern = SubElement(definitions, "pattern", {"id": f"part-{depth}", **size, "class": f"part-{depth}"})
        _box(pattern, 0, 0, 6, 6).set("class", "solid" if depth == 0 else "ground")
        if depth in (1, 3):
            SubElement(pattern, "path", {"d": "M-1,7 L7,-1 M-1,1 L1,-1 M5,7 L7,5", "class": "stroke"})
        if depth == 3:
            SubElement(pattern, "path", {"d": "M-1,-1 L7,7", "class": "stroke"})
        if depth == 2:
            SubElement(pattern, "circle", {"cx": "3", "cy": "3", "r": "1.3", "class": "fill"})
        if depth == 4:
            SubElement(pattern, "path", {"d": "M0,3 L6,3", "class": "stroke"})
    return _markup(svg)


def _fill(box: Element, pattern: int) -> None:
    box.set("class", f"column part-{pattern}")
    box.set("fill", f"url(#part-{pattern})")


def _svg(width: float, height: float) -> Element:
    """Hidden from screen readers: what it shows stands in words and in a table beside it."""
    box = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}"}
    return Element("svg", {**box, "aria-hidden": "true", "focusable": "false"})


def _line(svg: Element, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
    SubElement(svg, "line", {"x1": _n(x1), "y1": _n(y1), "x2": _n(x2), "y2": _n(y2), "class": kind})


def _box(svg: Element, x: float, y: float, width: float, height: float) -> Element:
    return SubElement(svg, "rect", {"x": _n(x), "y": _n(y), "width": _n(width), "height": _n(height)})


def _text(svg: Element, kind: str, x: float, y: float, text: str) -> None:
    SubElement(svg, "text", {"x": _n(x), "y": _n(y), "class": kind}).text = plain(text)


def _says(element: Element, text: str) -> None:
    SubElement(element, "title").text = plain(text)


def _n(value: float) -> str:
    return f"{value:.1f}"


def _markup(svg: Element) -> Markup:
    return Markup(ElementTree.tostring(svg, encoding="unicode"))
