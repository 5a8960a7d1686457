"""SVG elements: lines, boxes, marks, labels and patterns. Text goes through the XML library, which escapes it.

Whatever has a colour also has a shape, a pattern or a word. Colours are those of the page's style sheet, so a chart is
dark where the page is dark.
"""

from collections.abc import Sequence
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from markupsafe import Markup

from crescent.judging.wording import OUTCOMES
from crescent.records import Action
from crescent.report.texts import plain

WIDTH, HEIGHT = 360, 220
LEFT, TOP, BOTTOM = 40, 14, 34
CHARACTER = 6.2
"""Approximate width of a character of a label, in pixels."""
LABEL_STEP = 13
"""Least distance of two labels, in pixels."""
LAYERS = 6
"""Number of different patterns for the layers of a stack."""

Mark = Action | Literal["base", "dot"]
Tone = Literal["main", "second", "third", "ghost"]


def svg_of(width: float, height: float) -> Element:
    """An empty picture, hidden from screen readers: what it shows stands in words and in a table beside it."""
    box = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}"}
    return Element("svg", {**box, "aria-hidden": "true", "focusable": "false"})


def markup(svg: Element) -> Markup:
    return Markup(ElementTree.tostring(svg, encoding="unicode"))


def draw_line(svg: Element, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
    SubElement(svg, "line", {"x1": tenths(x1), "y1": tenths(y1), "x2": tenths(x2), "y2": tenths(y2), "class": kind})


def draw_box(svg: Element, x: float, y: float, width: float, height: float) -> Element:
    size = {"width": tenths(width), "height": tenths(height)}
    return SubElement(svg, "rect", {"x": tenths(x), "y": tenths(y), **size})


def draw_text(svg: Element, kind: str, x: float, y: float, text: str) -> None:
    SubElement(svg, "text", {"x": tenths(x), "y": tenths(y), "class": kind}).text = plain(text)


def add_tooltip(element: Element, text: str) -> None:
    SubElement(element, "title").text = plain(text)


def draw_mark(svg: Element, mark: Mark, x: float, y: float, tone: Tone) -> None:
    """Each outcome has a shape of its own."""
    kind, r = f"mark {tone}", 4.2
    match mark:
        case "roll back":
            SubElement(svg, "circle", {"cx": tenths(x), "cy": tenths(y), "r": tenths(r), "class": f"{kind} hollow"})
        case "retry":
            corners = ((x, y - r - 0.8), (x + r + 0.8, y), (x, y + r + 0.8), (x - r - 0.8, y))
            shape = " ".join(f"{tenths(across)},{tenths(down)}" for across, down in corners)
            SubElement(svg, "polygon", {"points": shape, "class": f"{kind} hollow"})
        case "stop":
            draw_line(svg, f"{kind} cross", x - r, y - r, x + r, y + r)
            draw_line(svg, f"{kind} cross", x - r, y + r, x + r, y - r)
        case "base":
            draw_box(svg, x - r + 0.5, y - r + 0.5, 2 * r - 1, 2 * r - 1).set("class", kind)
        case _:
            SubElement(svg, "circle", {"cx": tenths(x), "cy": tenths(y), "r": tenths(r), "class": kind})


def word_of(mark: Mark) -> str:
    """What a mark stands for."""
    if mark == "base" or mark == "dot":
        return mark
    return OUTCOMES[mark]


def fill(box: Element, pattern: int) -> None:
    box.set("class", f"column part-{pattern}")
    box.set("fill", f"url(#part-{pattern})")


def patterns() -> Markup:
    """The patterns of all stacks, once for a page: solid, stripes, dots, crosses, bars, empty."""
    svg = svg_of(0, 0)
    svg.set("class", "patterns")
    definitions = SubElement(svg, "defs")
    for depth in range(LAYERS):
        size = {"width": "6", "height": "6", "patternUnits": "userSpaceOnUse"}
        pattern = SubElement(definitions, "pattern", {"id": f"part-{depth}", **size, "class": f"part-{depth}"})
        draw_box(pattern, 0, 0, 6, 6).set("class", "solid" if depth == 0 else "ground")
        if depth in (1, 3):
            SubElement(pattern, "path", {"d": "M-1,7 L7,-1 M-1,1 L1,-1 M5,7 L7,5", "class": "stroke"})
        if depth == 3:
            SubElement(pattern, "path", {"d": "M-1,-1 L7,7", "class": "stroke"})
        if depth == 2:
            SubElement(pattern, "circle", {"cx": "3", "cy": "3", "r": "1.3", "class": "fill"})
        if depth == 4:
            SubElement(pattern, "path", {"d": "M0,3 L6,3", "class": "stroke"})
    return markup(svg)


def spaced(labels: Sequence[tuple[float, str, str]], end: float = HEIGHT - BOTTOM) -> list[tuple[float, str, str]]:
    """Labels (height, text, class), from the top down, moved so that none covers another."""
    placed: list[tuple[float, str, str]] = []
    for height, text, kind in sorted(labels):
        lowest = placed[-1][0] + LABEL_STEP if placed else TOP - 4.0
        placed.append((max(height, lowest), text, kind))
    over = (placed[-1][0] - end) if placed else 0
    return [(height - max(0, over), text, kind) for height, text, kind in placed]


def tenths(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}"
