"""The figure: error rate and answers used against the true score, as one SVG for light and dark pages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

WIDTH, HEIGHT = 720, 560
LEFT, RIGHT = 64, 700
UPPER, LOWER = (64, 240), (324, 500)
"""Top and bottom of each panel."""
MOST_ERROR = 0.06
STYLE = """
svg { font: 13px system-ui, sans-serif; background: #fff }
text { fill: #1f2328 } .tick { fill: #59636e } .grid { stroke: #d1d9e0 } .line { fill: none; stroke-width: 2 }
.limit { stroke: #59636e; stroke-dasharray: 5 4; stroke-width: 1.5 }
.first { stroke: #b3261e } .second { stroke: #0a5fb4; stroke-dasharray: 8 4 }
text.first { fill: #b3261e; stroke: none } text.second { fill: #0a5fb4; stroke: none }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117 } text { fill: #e6edf3 } .tick { fill: #9198a1 } .grid { stroke: #30363d }
.limit { stroke: #9198a1 } .first { stroke: #ff8a80 } .second { stroke: #79b8ff }
text.first { fill: #ff8a80 } text.second { fill: #79b8ff }
}
"""


@dataclass(frozen=True)
class Point:
    """What the gate does at one true score."""

    score: float
    false_pass: float | None
    """None where PASS is right."""
    false_fail: float | None
    """None where FAIL is right."""
    inconclusive: float
    used: float
    """Median answers, with a look after every one."""
    used_at_looks: float
    """The same with the product's looks."""


def draw(points: Sequence[Point], threshold: float, error: float, n: int) -> str:
    """Two panels over one axis of true scores."""
    end = points[-1].score
    svg = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {HEIGHT}",
            "role": "img",
            "aria-label": f"Error rate and answers used of the gate at threshold {threshold:g}, by true score",
        },
    )
    SubElement(svg, "style").text = STYLE
    _text(svg, LEFT, 24, f"The gate at threshold {threshold:g}, at most {n} prompts", weight="bold")

    def x(score: float) -> float:
        return LEFT + (RIGHT - LEFT) * score / end

    def error_height(share: float) -> float:
        return _height(UPPER, share / MOST_ERROR)

    def used_height(used: float) -> float:
        return _height(LOWER, used / n)

    ticks = [round(0.05 * step, 2) for step in range(round(end / 0.05) + 1)]
    _panel(svg, UPPER, "wrong verdicts", x, ticks, [(y / 100, f"{y} %") for y in range(0, 7, 2)], error_height)
    _panel(svg, LOWER, "median answers used", x, ticks, [(y, str(y)) for y in range(0, n + 1, 100)], used_height)
    for top, bottom in (UPPER, LOWER):
        _line(svg, "limit", x(threshold), top, x(threshold), bottom)
    _line(svg, "limit", LEFT, error_height(error), RIGHT, error_height(error))
    _text(svg, RIGHT, error_height(error) - 6, f"allowed: {100 * error:.0f} %", "tick", "end")
    _curve(svg, "first", [(x(p.score), error_height(p.false_pass)) for p in points if p.false_pass is not None])
    _curve(svg, "second", [(x(p.score), error_height(p.false_fail)) for p in points if p.false_fail is not None])
    _text(svg, x(threshold) + 36, error_height(0.02), "false PASS", "first")
    _text(svg, x(threshold) - 36, error_height(0.02), "false FAIL", "second", "end")
    _curve(svg, "first", [(x(p.score), used_height(p.used)) for p in points])
    _curve(svg, "second", [(x(p.score), used_height(p.used_at_looks)) for p in points])
    _text(svg, RIGHT, LOWER[0] + 20, "a look after every answer", "first", "end")
    _text(svg, RIGHT, LOWER[0] + 40, "at the product's looks", "second", "end")
    _text(svg, (LEFT + RIGHT) / 2, HEIGHT - 18, "true harmful score", "tick", "middle")
    return tostring(svg, encoding="unicode") + "\n"


def _panel(
    svg: Element,
    place: tuple[int, int],
    title: str,
    x: Callable[[float], float],
    across: Sequence[float],
    up: Sequence[tuple[float, str]],
    y: Callable[[float], float],
) -> None:
    _text(svg, LEFT, place[0] - 12, title)
    for value, label in up:
        _line(svg, "grid", LEFT, y(value), RIGHT, y(value))
        _text(svg, LEFT - 8, y(value) + 4, label, "tick", "end")
    for score in across:
        _line(svg, "grid", x(score), place[1], x(score), place[1] + 5)
        _text(svg, x(score), place[1] + 20, f"{score:g}", "tick", "middle")


def _height(place: tuple[int, int], share: float) -> float:
    top, bottom = place
    return bottom - (bottom - top) * min(share, 1.0)


def _curve(svg: Element, name: str, points: Sequence[tuple[float, float]]) -> None:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    SubElement(svg, "polyline", {"class": f"line {name}", "points": places})


def _line(svg: Element, name: str, x1: float, y1: float, x2: float, y2: float) -> None:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    SubElement(svg, "line", {"class": name} | {key: f"{value:.1f}" for key, value in ends.items()})


def _text(
    svg: Element, x: float, y: float, text: str, name: str = "", anchor: str = "start", weight: str = "normal"
) -> None:
    places = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "font-weight": weight}
    SubElement(svg, "text", ({"class": name} if name else {}) | places).text = text
