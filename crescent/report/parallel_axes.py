"""Parallel coordinates as static SVG: one line through several vertical axes for each run."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from xml.etree.ElementTree import Element, SubElement

from markupsafe import Markup

from crescent.report.svg import (
    CHARACTER,
    LABEL_STEP,
    Mark,
    add_tooltip,
    draw_box,
    draw_line,
    draw_mark,
    draw_text,
    markup,
    spaced,
    svg_of,
    tenths,
    word_of,
)

AXIS_HEIGHT, AXIS_TOP, AXIS_ROOM = 300, 40, 20
"""Height of the picture, room for the two lines of an axis's name, and room beyond its first and last value."""
NAME_WIDTH = 1.15
"""Width of a character of an axis's name, relative to one of a label."""
STEPS = 5
"""Number of colours for a value, from low to high."""
SIDESTEP = 4.0
"""Most pixels between two lines that meet an axis at the same value."""
NUMBERED = 20
"""Most lines that have a number at their ends."""


@dataclass(frozen=True)
class Axis:
    """One of several parallel axes."""

    prefix: str
    name: str
    """Name, which stands below the prefix."""
    tooltip: str
    ticks: tuple[tuple[float, str], ...]
    """Places on the axis, from 0 to 1, with their labels."""


@dataclass(frozen=True)
class Track:
    """A line through parallel axes."""

    tooltip: str
    places: tuple[float | None, ...]
    """Place on each axis, from 0 to 1; `None` leaves a gap."""
    step: int | None
    """Number of its colour, below `STEPS`; `None` for no colour."""
    mark: Mark = "accept"
    label: str = ""
    """Text at its end."""


def parallel_plot(axes: Sequence[Axis], tracks: Sequence[Track], scale: tuple[float, float] | None) -> Markup:
    """Lines through vertical axes, as wide as the names need. Lines that meet at a value lie side by side there.

    Args:
        scale: Range of the last axis that the tracks' colours cover; `None` where there is only one colour.
    """
    labelled = any(track.label for track in tracks)
    across = _axis_places(axes)
    first, last = AXIS_TOP + AXIS_ROOM, AXIS_HEIGHT - AXIS_ROOM - 4

    def y(place: float) -> float:
        return last - (last - first) * place

    svg = svg_of(math.ceil(across[-1] + max(_room(axes[-1]), 46 if labelled else 16)), AXIS_HEIGHT)
    for x in across:
        draw_line(svg, "axis-line", x, first - AXIS_ROOM + 4, x, last + AXIS_ROOM - 4)
    heights = [_side_by_side([track.places[nth] for track in tracks], y) for nth in range(len(axes))]
    ends: list[tuple[float, str, str]] = []
    # The highest gain is drawn last, so that it lies on top.
    for nth in sorted(range(len(tracks)), key=lambda nth: -1 if (step := tracks[nth].step) is None else step):
        track, own_heights = tracks[nth], [on_axis[nth] for on_axis in heights]
        _draw_track(svg, track, list(zip(across, own_heights, strict=True)))
        if track.label and (end := own_heights[-1]) is not None:
            ends.append((end, track.label, "name"))
    for step in range(STEPS if scale else 0):
        low, high = scale or (0.0, 0.0)
        top, bottom = (y(low + (high - low) * edge / STEPS) for edge in (step + 1, step))
        draw_box(svg, across[-1] + 8, top, 4, bottom - top).set("class", f"step step-{step}")
    for (end, *_), (height, label, kind) in zip(sorted(ends), spaced(ends, AXIS_HEIGHT - 8), strict=True):
        draw_line(svg, "axis-line", across[-1] + 14, end, across[-1] + 24, height)
        draw_text(svg, kind, across[-1] + 27, height + 4, label)
    for x, axis in zip(across, axes, strict=True):
        group = SubElement(svg, "g")
        add_tooltip(group, axis.tooltip)
        draw_text(group, "tick middle", x, 14, axis.prefix)
        draw_text(group, "axis-name middle", x, 28, axis.name)
        for place, label in _thinned(axis.ticks, abs(last - first)):
            draw_line(svg, "axis-line", x - 4, y(place), x, y(place))
            draw_text(svg, "tick end over", x - 7, y(place) + 4, label)
    return markup(svg)


def track_legend(marks: Sequence[Mark]) -> list[tuple[Markup, str]]:
    """A swatch for each kind of track."""
    swatches = []
    for mark in marks:
        svg = svg_of(34, 12)
        end: list[tuple[float, float | None]] = [(34, None)] if mark == "dot" else []
        _draw_track(svg, Track("", (), None if mark == "dot" else STEPS - 1, mark), [(2, 6), (28, 6), *end])
        swatches.append((markup(svg), word_of(mark)))
    return swatches


def _axis_places(axes: Sequence[Axis]) -> list[float]:
    """Horizontal places of the axes, with room for their names and for the labels on their left."""
    left = [max((len(text) for _, text in axis.ticks), default=0) * CHARACTER + 10 for axis in axes]
    across = [max(_room(axes[0]), left[0])]
    for (before, axis), room in zip(pairwise(axes), left[1:], strict=True):
        across.append(across[-1] + max(_room(before) + _room(axis) + 4, room + 36))
    return across


def _room(axis: Axis) -> float:
    """Half the width of its name."""
    return max(len(axis.prefix), len(axis.name) * NAME_WIDTH) * CHARACTER / 2 + 4


def _side_by_side(places: Sequence[float | None], y: Callable[[float], float]) -> list[float | None]:
    """Heights on one axis; tracks with equal places lie next to each other, in order."""
    members_by_place: dict[float, list[int]] = {}
    for nth, place in enumerate(places):
        if place is not None:
            members_by_place.setdefault(place, []).append(nth)
    known = sorted(members_by_place)
    least = min((abs(y(high) - y(low)) for low, high in pairwise(known)), default=math.inf)
    heights: list[float | None] = [None] * len(places)
    for place, members in members_by_place.items():
        sidestep = min(SIDESTEP, 0.7 * least / len(members), 2 * (AXIS_ROOM - 4) / len(members))
        for nth, member in enumerate(members):
            heights[member] = y(place) + (nth - (len(members) - 1) / 2) * sidestep
    return heights


def _draw_track(svg: Element, track: Track, points: Sequence[tuple[float, float | None]]) -> None:
    group = SubElement(svg, "g", {"class": "track" + ("" if track.step is None else f" step-{track.step}")})
    if track.tooltip:
        add_tooltip(group, track.tooltip)
    dashed = {"accept": "", "dot": " unknown"}.get(track.mark, " dashed")
    for known, stretch in groupby(points, lambda point: point[1] is not None):
        parts = [(x, y) for x, y in stretch if y is not None]
        if known and len(parts) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in parts)
            SubElement(group, "polyline", {"points": path, "class": f"track-line{dashed}", "fill": "none"})
            # A wide invisible line, so that a mouse need not meet the thin line exactly.
            SubElement(group, "polyline", {"points": path, "class": "near", "fill": "none"})
        for x, y in parts if known else []:
            if x == points[-1][0]:
                draw_mark(group, track.mark, x, y, "main")
            else:
                SubElement(group, "circle", {"cx": tenths(x), "cy": tenths(y), "r": "2", "class": "knot"})


def _thinned(labels: Sequence[tuple[float, str]], length: float) -> list[tuple[float, str]]:
    """Labels that have room: the first, the last, and between them those that touch neither these nor each other."""
    ordered = sorted(labels)
    kept: list[tuple[float, str]] = []
    for place, text in ordered:
        free = all(abs(place - other) * length >= LABEL_STEP for other, _ in (*kept, ordered[-1]))
        if not kept or free or (place, text) == ordered[-1]:
            kept.append((place, text))
    return kept
