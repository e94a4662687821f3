"""Panels with lines, marks and bounds, as one SVG for light and dark pages. Pure.

Each series has a colour, a dash and a shape of its own, so that no colour is needed to read it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

WIDTH = 720
PANEL = 300
"""Pixels of height."""
LEFT, RIGHT, TOP, BOTTOM = 56, 28, 48, 52
INSET = 12
"""From the sides to the first and the last tick, so that no mark lies upon the figures beside it."""
LEGEND = 24
"""Of each line of it."""
LEGENDS_A_LINE = 3
MARK = 4.5
STYLE = """
svg { font: 13px system-ui, sans-serif; background: #fff }
text { fill: #1f2328; stroke: none } .tick { fill: #59636e } .grid { stroke: #d1d9e0 }
.s0 { stroke: #b3261e; fill: #b3261e } .s1 { stroke: #0a5fb4; fill: #0a5fb4; stroke-dasharray: 8 4 }
.s2 { stroke: #1a7f37; fill: #1a7f37; stroke-dasharray: 2 3 }
.s3 { stroke: #8250df; fill: #8250df; stroke-dasharray: 10 3 2 3 }
.s4 { stroke: #9a6700; fill: #9a6700; stroke-dasharray: 5 2 } .s5 { stroke: #1f2328; fill: #1f2328 }
.s6 { stroke: #59636e; fill: #59636e; stroke-dasharray: 1 2 }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117 } text { fill: #e6edf3 } .tick { fill: #9198a1 } .grid { stroke: #30363d }
.s0 { stroke: #ff8a80; fill: #ff8a80 } .s1 { stroke: #79b8ff; fill: #79b8ff } .s2 { stroke: #56d364; fill: #56d364 }
.s3 { stroke: #d2a8ff; fill: #d2a8ff } .s4 { stroke: #e3b341; fill: #e3b341 } .s5 { stroke: #e6edf3; fill: #e6edf3 }
.s6 { stroke: #9198a1; fill: #9198a1 }
}
.line { fill: none; stroke-width: 2 } .bound { stroke-width: 1; opacity: 0.6 } .mark, .bound { stroke-dasharray: none }
"""


@dataclass(frozen=True)
class Place:
    """A value, with its bounds where it has any."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """What one name was at each place."""

    name: str
    places: Sequence[Place]
    joined: bool = True
    marked: bool = True
    """Whether each place has a mark of the series' shape."""


@dataclass(frozen=True)
class Axis:
    """What stands along a side, from its first tick to its last."""

    words: str
    ticks: Sequence[float]

    def share(self, value: float) -> float:
        """Where a value is: 0 at the first tick, 1 at the last. What is beyond stands at the edge."""
        low, high = self.ticks[0], self.ticks[-1]
        return min(1.0, max(0.0, (value - low) / (high - low)))


@dataclass(frozen=True)
class Panel:
    """One drawing over two axes."""

    title: str
    across: Axis
    up: Axis
    series: Sequence[Series]


def draw(title: str, panels: Sequence[Panel], columns: int = 1) -> str:
    """Panels in rows from left to right, over one legend."""
    names = list(dict.fromkeys(series.name for panel in panels for series in panel.series))
    joined = {series.name for panel in panels for series in panel.series if series.joined}
    marked = {series.name for panel in panels for series in panel.series if series.marked}
    rows = -(-len(panels) // columns)
    legend = LEGEND * (-(-len(names) // LEGENDS_A_LINE)) + 8
    height = rows * PANEL + legend
    svg = Element(
        "svg",
        {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH} {height}", "role": "img", "aria-label": title},
    )
    SubElement(svg, "title").text = title
    SubElement(svg, "style").text = STYLE
    for number, panel in enumerate(panels):
        _panel(svg, panel, names, (number % columns * WIDTH / columns, number // columns * PANEL), WIDTH / columns)
    for number, name in enumerate(names):
        x = LEFT + number % LEGENDS_A_LINE * (WIDTH - LEFT) / LEGENDS_A_LINE
        y = rows * PANEL + LEGEND * (number // LEGENDS_A_LINE) + 12.0
        if name in joined:
            _curve(svg, number, [(x, y), (x + 36, y)])
        if name in marked:
            _mark(svg, number, x + 18, y)
        _text(svg, x + 44, y + 4, name)
    return tostring(svg, encoding="unicode") + "\n"


def ticks(values: Sequence[float], step: float) -> list[float]:
    """Multiples of `step` that hold all values; two at least."""
    low = math.floor(min(values, default=0) / step)
    high = max(low + 1, math.ceil(max(values, default=0) / step))
    return [round(number * step, 10) for number in range(low, high + 1)]


def _panel(svg: Element, panel: Panel, names: Sequence[str], corner: tuple[float, float], width: float) -> None:
    left, right = corner[0] + LEFT, corner[0] + width - RIGHT
    top, bottom = corner[1] + TOP, corner[1] + PANEL - BOTTOM

    def x(value: float) -> float:
        return left + INSET + (right - left - 2 * INSET) * panel.across.share(value)

    def y(value: float) -> float:
        return bottom - (bottom - top) * panel.up.share(value)

    _text(svg, left, top - 27, panel.title)
    for value in panel.up.ticks:
        _line(svg, "grid", left, y(value), right, y(value))
        _text(svg, left - 6, y(value) + 4, f"{value:g}", "tick", "end")
    for value in panel.across.ticks:
        _line(svg, "grid", x(value), bottom, x(value), bottom + 5)
        _text(svg, x(value), bottom + 19, f"{value:g}", "tick", "middle")
    _text(svg, (left + right) / 2, bottom + 38, panel.across.words, "tick", "middle")
    _text(svg, left, top - 9, panel.up.words, "tick")
    for series in panel.series:
        number = names.index(series.name)
        if series.joined:
            _curve(svg, number, [(x(place.x), y(place.y)) for place in series.places])
        for place in series.places:
            if place.low is not None and place.high is not None:
                _line(svg, f"bound s{number % 7}", x(place.x), y(place.low), x(place.x), y(place.high))
            if series.marked:
                _mark(svg, number, x(place.x), y(place.y))


def _curve(svg: Element, number: int, points: Sequence[tuple[float, float]]) -> None:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    SubElement(svg, "polyline", {"class": f"line s{number % 7}", "points": places})


def _mark(svg: Element, number: int, x: float, y: float) -> None:
    """A disc, a square, a triangle, a diamond, a wedge, a cross: in turn."""
    corners = {
        1: ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        2: ((0, -1.2), (1.2, 1), (-1.2, 1)),
        3: ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
        4: ((0, 1.2), (1.2, -1), (-1.2, -1)),
        5: ((-1.3, -0.4), (1.3, -0.4), (1.3, 0.4), (-1.3, 0.4)),
    }.get(number % 6)
    name = f"mark s{number % 7}"
    if corners is None:
        SubElement(svg, "circle", {"class": name, "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{MARK}"})
    else:
        points = " ".join(f"{x + MARK * a:.1f},{y + MARK * b:.1f}" for a, b in corners)
        SubElement(svg, "polygon", {"class": name, "points": points})


def _line(svg: Element, name: str, x1: float, y1: float, x2: float, y2: float) -> None:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    SubElement(svg, "line", {"class": name} | {key: f"{value:.1f}" for key, value in ends.items()})


def _text(svg: Element, x: float, y: float, words: str, name: str = "", anchor: str = "start") -> None:
    places = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    SubElement(svg, "text", ({"class": name} if name else {}) | places).text = words
