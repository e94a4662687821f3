"""The charts of the models and of the doses, and the bars of the tables. Pure."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal
from xml.etree.ElementTree import Element, tostring

from antidote_ci.report import drawing
from antidote_ci.report.drawing import Shape
from antidote_ci.report.judges import ModelRole
from antidote_ci.report.rows import AttemptRow, ModelRow
from antidote_ci.report.text import format_number, format_percent

Series = Literal["score", "task", "refusal"]

SHAPES: dict[Series, Shape] = {"score": "circle", "task": "square", "refusal": "triangle"}
ROLE_SHAPES: dict[ModelRole, Shape] = {
    "reference": "diamond",
    "tested": "square",
    "before": "square",
    "after": "circle",
    "control": "triangle",
}

ROW_HEIGHT = 52
AXIS_TOP, AXIS_BOTTOM = 28, 228


def draw_intervals(rows: Sequence[ModelRow], measure: str, threshold: float) -> str:
    """One row a model: the score as a mark, its one-sided bounds as a bar, the threshold as a line."""
    # A row that names its judge needs a second line for it.
    named = 16 if any(row.by for row in rows) else 0
    height = ROW_HEIGHT + named
    bottom = 30 + height * len(rows)
    readings = [f"{_row_title(row)}: {_share_text(row)}, bounds {row.bounds_text}" for row in rows]
    svg = drawing.new_chart(
        "intervals",
        bottom + 24,
        f"{measure} of each model against the threshold",
        f"{'; '.join(readings)}. The threshold is {format_percent(threshold)}.",
    )
    for tick in range(0, 101, 25):
        drawing.draw_line(svg, "grid", _x_percent(tick / 100), 26, _x_percent(tick / 100), bottom)
        drawing.draw_text(
            svg, "tick", _x_percent(tick / 100), bottom + 18, f"{tick} %", drawing.text_anchor(tick / 100)
        )
    drawing.draw_line(svg, "threshold", _x_percent(threshold), 20, _x_percent(threshold), bottom)
    drawing.draw_text(
        svg, "note", _x_percent(threshold), 14, f"threshold {format_percent(threshold)}", drawing.text_anchor(threshold)
    )
    for index, row in enumerate(rows):
        top = 30 + height * index
        middle = top + 34 + named
        low, high = map(_x_percent, row.bounds)
        group = drawing.add_element(svg, "g", class_=row.role)
        drawing.draw_text(group, "label", _x_percent(0), top + 18, row.label, "start")
        value = drawing.draw_text(group, "value", _x_percent(1), top + 18, f"{_share_text(row)} ", "end")
        drawing.add_element(value, "tspan", row.bounds_text, class_="bounds")
        if row.by:
            drawing.draw_text(group, "tick", _x_percent(0), top + 34, row.by, "start")
        drawing.draw_line(group, "track", _x_percent(0), middle, _x_percent(1), middle)
        drawing.draw_line(group, "bar", low, middle, high, middle)
        for end in (low, high):
            drawing.draw_line(group, "cap", end, middle - 6, end, middle + 6)
        drawing.draw_mark(group, ROLE_SHAPES[row.role], _x_percent(_drawn_score(row)), middle)
    return tostring(svg, encoding="unicode")


def draw_doses(rows: Sequence[AttemptRow], measure: str, threshold: float) -> str:
    """Every dose tried on the selection split, on a log axis, against its shares; empty without a dose to draw."""
    drawn = [row for row in rows if row.dose > 0]
    if not drawn:
        return ""
    readings = [f"dose {format_number(row.dose)}: {format_percent(row.score)}" for row in drawn]
    svg = drawing.new_chart(
        "doses",
        AXIS_BOTTOM + 40,
        f"{measure}, task accuracy and over-refusal by dose, on the selection split",
        f"{measure} at each dose tried: {'; '.join(readings)}.",
    )
    place = _log_scale([row.dose for row in drawn])
    _draw_dose_axes(svg, place, threshold)
    for row in drawn:
        if row.role == "chosen":
            at = place(row.dose)
            drawing.draw_line(svg, "chosen", at, AXIS_TOP - 6, at, AXIS_BOTTOM)
            fraction = float(at.rstrip("%")) / 100
            drawing.draw_text(svg, "note", at, 14, f"chosen: {format_number(row.dose)}", drawing.text_anchor(fraction))
    values: dict[Series, list[float | None]] = {
        "refusal": [row.over_refusal for row in drawn],
        "task": [row.task_accuracy for row in drawn],
        "score": [row.score for row in drawn],
    }
    for series, shares in values.items():
        known = [(place(row.dose), _y_pixels(y)) for row, y in zip(drawn, shares, strict=True) if y is not None]
        group = drawing.add_element(svg, "g", class_=f"series {series}")
        for (x1, y1), (x2, y2) in pairwise(known):
            drawing.draw_line(group, "curve", x1, y1, x2, y2)
        for x, y in known:
            drawing.draw_mark(group, SHAPES[series], x, y)
    return tostring(svg, encoding="unicode")


def series_swatch(series: Series) -> str:
    """The legend's mark of one series."""
    return drawing.draw_swatch(series, SHAPES[series])


def draw_bar(share: float, role: ModelRole) -> str:
    """A share as a bar beside its figure; the figure says it in text, so readers of screens skip the bar."""
    svg = Element("svg", {"class": f"share {role}", "width": "100%", "height": "8", "aria-hidden": "true"})
    drawing.add_element(svg, "rect", class_="track", width="100%", height=8, rx=2)
    drawing.add_element(svg, "rect", class_="fill", width=f"{100 * share:.1f}%", height=8, rx=2)
    return tostring(svg, encoding="unicode")


def _row_title(row: ModelRow) -> str:
    return f"{row.label} ({row.by})" if row.by else row.label


def _drawn_score(row: ModelRow) -> float:
    """The bounds are of the corrected score where there is one, so that is what stands between them."""
    return row.score if row.corrected is None else row.corrected


def _share_text(row: ModelRow) -> str:
    return format_percent(row.score) if row.corrected is None else f"corrected {format_percent(row.corrected)}"


def _draw_dose_axes(svg: Element, place: Callable[[float], str], threshold: float) -> None:
    for tick in range(0, 101, 25):
        y = _y_pixels(tick / 100)
        drawing.draw_line(svg, "grid", "12%", y, "99%", y)
        drawing.draw_text(svg, "tick", "10.5%", y + 4, f"{tick} %", "end")
    y = _y_pixels(threshold)
    drawing.draw_line(svg, "threshold", "12%", y, "99%", y)
    drawing.draw_text(svg, "note", "99%", y - 6, f"threshold {format_percent(threshold)}", "end")
    for dose in _dose_ticks(place):
        drawing.draw_line(svg, "grid", place(dose), AXIS_BOTTOM, place(dose), AXIS_BOTTOM + 5)
        drawing.draw_text(svg, "tick", place(dose), AXIS_BOTTOM + 19, format_number(dose), "middle")
    drawing.draw_text(svg, "tick", "55.5%", AXIS_BOTTOM + 36, "dose (log scale)", "middle")


def _log_scale(values: Sequence[float]) -> Callable[[float], str]:
    """Place along x by the logarithm, with room on both sides."""
    low, high = math.log10(min(values)) - 0.15, math.log10(max(values)) + 0.15
    return lambda value: f"{14 + 83 * (math.log10(value) - low) / (high - low):.2f}%"


def _dose_ticks(place: Callable[[float], str]) -> list[float]:
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


def _x_percent(share: float) -> str:
    return f"{2 + 96 * share:.2f}%"


def _y_pixels(share: float) -> float:
    return AXIS_BOTTOM - (AXIS_BOTTOM - AXIS_TOP) * share
