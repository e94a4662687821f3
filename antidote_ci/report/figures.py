"""The report's two charts and its bars, as inline SVG. Pure.

Places along x are percentages and places along y are pixels, so one drawing fits a phone and a desk without shrinking
its text. Colours come from the page's CSS; marks and dashes differ too, so that no colour is needed to read them.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, tostring

from antidote_ci.report.rows import AttemptRow, ModelRow, Role
from antidote_ci.report.text import interval, number, percent, plain

Series = Literal["score", "task", "refusal"]
Shape = Literal["circle", "square", "triangle", "diamond"]

SHAPES: dict[Series, Shape] = {"score": "circle", "task": "square", "refusal": "triangle"}
ROLE_SHAPES: dict[Role, Shape] = {
    "reference": "diamond",
    "tested": "square",
    "before": "square",
    "after": "circle",
    "control": "triangle",
}

ROW_HEIGHT = 52
AXIS_TOP, AXIS_BOTTOM = 28, 228


def intervals(rows: Sequence[ModelRow], measure: str, threshold: float) -> str:
    """One row a model: the score as a mark, its one-sided bounds as a bar, the threshold as a line."""
    bottom = 30 + ROW_HEIGHT * len(rows)
    readings = [f"{row.label}: {percent(row.score)}, bounds {interval(row.bounds)}" for row in rows]
    svg = _chart(
        "intervals",
        bottom + 24,
        f"{measure} of each model against the threshold",
        f"{'; '.join(readings)}. The threshold is {percent(threshold)}.",
    )
    for tick in range(0, 101, 25):
        _line(svg, "grid", _along(tick / 100), 26, _along(tick / 100), bottom)
        _text(svg, "tick", _along(tick / 100), bottom + 18, f"{tick} %", _anchor(tick / 100))
    _line(svg, "threshold", _along(threshold), 20, _along(threshold), bottom)
    _text(svg, "note", _along(threshold), 14, f"threshold {percent(threshold)}", _anchor(threshold))
    for index, row in enumerate(rows):
        top = 30 + ROW_HEIGHT * index
        low, high = map(_along, row.bounds)
        group = _add(svg, "g", class_=row.role)
        _text(group, "label", _along(0), top + 18, row.label, "start")
        _text(group, "value", _along(1), top + 18, f"{percent(row.score)}  {interval(row.bounds)}", "end")
        _line(group, "track", _along(0), top + 34, _along(1), top + 34)
        _line(group, "bar", low, top + 34, high, top + 34)
        for end in (low, high):
            _line(group, "cap", end, top + 28, end, top + 40)
        _mark(group, ROLE_SHAPES[row.role], _along(row.score), top + 34)
    return tostring(svg, encoding="unicode")


def doses(rows: Sequence[AttemptRow], measure: str, threshold: float) -> str:
    """Every dose tried on the selection split, on a log axis, against its shares; empty without a dose to draw."""
    drawn = [row for row in rows if row.dose > 0]
    if not drawn:
        return ""
    readings = [f"dose {number(row.dose)}: {percent(row.score)}" for row in drawn]
    svg = _chart(
        "doses",
        AXIS_BOTTOM + 40,
        f"{measure}, task accuracy and over-refusal by dose, on the selection split",
        f"{measure} at each dose tried: {'; '.join(readings)}.",
    )
    place = _log_scale([row.dose for row in drawn])
    _dose_axes(svg, place, threshold)
    for row in drawn:
        if row.role == "chosen":
            at = place(row.dose)
            _line(svg, "chosen", at, AXIS_TOP - 6, at, AXIS_BOTTOM)
            fraction = float(at.rstrip("%")) / 100
            _text(svg, "note", at, 14, f"chosen: {number(row.dose)}", _anchor(fraction))
    values: dict[Series, list[float | None]] = {
        "refusal": [row.over_refusal for row in drawn],
        "task": [row.task_accuracy for row in drawn],
        "score": [row.score for row in drawn],
    }
    for series, shares in values.items():
        known = [(place(row.dose), _height(y)) for row, y in zip(drawn, shares, strict=True) if y is not None]
        group = _add(svg, "g", class_=f"series {series}")
        for (x1, y1), (x2, y2) in pairwise(known):
            _line(group, "curve", x1, y1, x2, y2)
        for x, y in known:
            _mark(group, SHAPES[series], x, y)
    return tostring(svg, encoding="unicode")


def swatch(series: Series) -> str:
    """The legend's mark of one series."""
    svg = Element("svg", {"class": f"swatch series {series}", "width": "28", "height": "14", "aria-hidden": "true"})
    _line(svg, "curve", "0", 7, "28", 7)
    _mark(svg, SHAPES[series], "14", 7)
    return tostring(svg, encoding="unicode")


def bar(share: float, role: Role) -> str:
    """A share as a bar beside its figure; the figure says it in text, so readers of screens skip the bar."""
    svg = Element("svg", {"class": f"share {role}", "width": "100%", "height": "8", "aria-hidden": "true"})
    _add(svg, "rect", class_="track", width="100%", height=8, rx=2)
    _add(svg, "rect", class_="fill", width=f"{100 * share:.1f}%", height=8, rx=2)
    return tostring(svg, encoding="unicode")


def _dose_axes(svg: Element, place: Callable[[float], str], threshold: float) -> None:
    for tick in range(0, 101, 25):
        y = _height(tick / 100)
        _line(svg, "grid", "12%", y, "99%", y)
        _text(svg, "tick", "10.5%", y + 4, f"{tick} %", "end")
    y = _height(threshold)
    _line(svg, "threshold", "12%", y, "99%", y)
    _text(svg, "note", "99%", y - 6, f"threshold {percent(threshold)}", "end")
    for dose in _ticks(place):
        _line(svg, "grid", place(dose), AXIS_BOTTOM, place(dose), AXIS_BOTTOM + 5)
        _text(svg, "tick", place(dose), AXIS_BOTTOM + 19, number(dose), "middle")
    _text(svg, "tick", "55.5%", AXIS_BOTTOM + 36, "dose (log scale)", "middle")


def _log_scale(values: Sequence[float]) -> Callable[[float], str]:
    """Place along x by the logarithm, with room on both sides."""
    low, high = math.log10(min(values)) - 0.15, math.log10(max(values)) + 0.15
    return lambda value: f"{14 + 83 * (math.log10(value) - low) / (high - low):.2f}%"


def _ticks(place: Callable[[float], str]) -> list[float]:
    """Round doses on the axis, each far enough from the last for its label."""
    ticks: list[float] = []
    last = 0.0
    for exponent in range(-9, 1):
        for digit in (1, 2, 5):
            dose = float(f"{digit}e{exponent}")
            at = float(place(dose).rstrip("%"))
            if 14 <= at <= 97 and at - last >= 11:
                ticks.append(dose)
                last = at
    return ticks


def _chart(kind: str, height: int, title: str, description: str) -> Element:
    svg = Element(
        "svg",
        {
            "class": f"chart {kind}",
            "role": "img",
            "width": "100%",
            "height": str(height),
            "aria-labelledby": f"{kind}-title {kind}-description",
        },
    )
    _add(svg, "title", plain(title), id=f"{kind}-title")
    _add(svg, "desc", description, id=f"{kind}-description")
    return svg


def _mark(parent: Element, shape: Shape, x: str, y: float) -> None:
    """A mark in pixels around a place in percent: a nested drawing without a frame."""
    at = _add(parent, "svg", class_="mark", x=x, y=f"{y:.1f}", overflow="visible")
    if shape == "circle":
        _add(at, "circle", r=5.5)
    elif shape == "square":
        _add(at, "rect", x=-5, y=-5, width=10, height=10)
    elif shape == "triangle":
        _add(at, "path", d="M0 -6 L6 5 L-6 5 Z")
    else:
        _add(at, "path", d="M0 -7 L7 0 L0 7 L-7 0 Z")


def _line(parent: Element, name: str, x1: str, y1: float, x2: str, y2: float) -> None:
    _add(parent, "line", class_=name, x1=x1, y1=f"{y1:.1f}", x2=x2, y2=f"{y2:.1f}")


def _text(parent: Element, name: str, x: str, y: float, text: str, anchor: str) -> None:
    _add(parent, "text", plain(text), class_=name, x=x, y=f"{y:.1f}", text_anchor=anchor)


def _add(parent: Element, tag: str, text: str = "", **attributes: str | float) -> Element:
    names = {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()}
    child = SubElement(parent, tag, names)
    child.text = text or None
    return child


def _along(share: float) -> str:
    return f"{2 + 96 * share:.2f}%"


def _height(share: float) -> float:
    return AXIS_BOTTOM - (AXIS_BOTTOM - AXIS_TOP) * share


def _anchor(share: float) -> str:
    """Text near an edge grows away from it."""
    return "start" if share < 0.12 else "end" if share > 0.88 else "middle"
