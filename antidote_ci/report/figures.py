"""Charts of the report: SVG for the page, characters for the job summary."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, get_args
from xml.etree.ElementTree import Element, tostring

from antidote_ci.formatting import format_interval, format_percent
from antidote_ci.records import ComparedModel, FrontierPoint, HistoryEntry, Method, Report, RunVerdict
from antidote_ci.report import svg
from antidote_ci.report.measures import ModelRole, name_measures
from antidote_ci.report.svg import Shape
from antidote_ci.report.tables import AttemptRow, ModelRow
from antidote_ci.report.text import flatten, format_number, short_sha

PointKind = Literal["input", "reference"] | Method
"""Kind of a frontier point: the input model, the reference, or a dose of a method."""
Series = Literal["score", "task", "refusal"]

SERIES_SHAPES: dict[Series, Shape] = {"score": "circle", "task": "square", "refusal": "triangle"}
ROLE_SHAPES: dict[ModelRole, Shape] = {
    "reference": "diamond",
    "tested": "square",
    "before": "square",
    "after": "circle",
}
POINT_SHAPES: dict[PointKind, Shape] = {
    "input": "square",
    "reference": "diamond",
    "antidote": "circle",
    "taylor": "wedge",
    "scale": "triangle",
    "random": "cross",
}

VERDICT_SHAPES: dict[RunVerdict, Shape] = {
    "pass": "circle",
    "repaired": "square",
    "fail": "cross",
    "inconclusive": "diamond",
}

ROW_HEIGHT = 52
LEFT, WIDTH = 13.0, 84.0
"""Plot area of the x-y charts, in percent of the chart's width."""
TOP, BOTTOM = 44, 284
"""Plot area of the x-y charts, in pixels."""
MIN_TICK_GAP = 0.16
Y_AXIS_ENDS = (0.04, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Ends of the y axis below 100 %, each with plain quarters."""
QUARTERS = tuple((tick / 4, f"{25 * tick} %") for tick in range(5))

CELLS = 60
"""Characters from 0 % to 100 % in the text chart."""
SCORE = "●"


def draw_intervals(rows: Sequence[ModelRow], measure: str, threshold: float) -> str:
    """Draw one row per model: the score as a mark, the one-sided bounds as a bar, the threshold as a line."""
    # Rows that name their judge have a second line of text.
    judge_height = 16 if any(row.judge for row in rows) else 0
    height = ROW_HEIGHT + judge_height
    bottom = 30 + height * len(rows)
    chart = svg.new_chart("intervals", bottom + 24, f"{measure} of the models against the threshold")

    def x_percent(share: float) -> str:
        return f"{2 + 96 * share:.2f}%"

    for share, label in QUARTERS:
        svg.draw_line(chart, "grid", x_percent(share), 26, x_percent(share), bottom)
        svg.draw_text(chart, "tick", x_percent(share), bottom + 18, label, svg.text_anchor(share))
    _draw_vertical_line(chart, "threshold", x_percent(threshold), threshold, bottom, _threshold_text(threshold))
    for index, row in enumerate(rows):
        top = 30 + height * index
        middle = top + 34 + judge_height
        low, high = map(x_percent, row.bounds)
        group = svg.add_element(chart, "g", class_=row.role)
        svg.draw_text(group, "label", x_percent(0), top + 18, row.label, "start")
        value = svg.draw_text(group, "value", x_percent(1), top + 18, f"{_score_text(row)} ", "end")
        svg.add_element(value, "tspan", row.bounds_text, class_="bounds")
        if row.judge:
            svg.draw_text(group, "tick", x_percent(0), top + 34, row.judge, "start")
        svg.draw_line(group, "track", x_percent(0), middle, x_percent(1), middle)
        svg.draw_line(group, "bar", low, middle, high, middle)
        for end in (low, high):
            svg.draw_line(group, "cap", end, middle - 6, end, middle + 6)
        svg.draw_mark(group, ROLE_SHAPES[row.role], x_percent(row.bounded_score), middle)
    return tostring(chart, encoding="unicode")


def draw_doses(rows: Sequence[AttemptRow], measure: str, threshold: float) -> str:
    """Draw the shares measured at each dose of the search, on a log axis; empty when no dose is above 0."""
    rows = [row for row in rows if row.dose > 0]
    if not rows:
        return ""
    title = f"{measure}, task accuracy and over-refusal by dose, on the selection split"
    chart = svg.new_chart("doses", BOTTOM + 40, title)
    low, high = math.log10(rows[0].dose) - 0.15, math.log10(rows[-1].dose) + 0.15

    def x_position(dose: float) -> float:
        return (math.log10(dose) - low) / (high - low)

    doses = [float(f"{digit}e{exponent}") for exponent in range(-9, 1) for digit in (1, 2, 5)]
    ticks = [(x_position(dose), format_number(dose)) for dose in doses if 0 <= x_position(dose) <= 1]
    _draw_axes(chart, _thin_out(ticks), QUARTERS, "dose (log scale)")
    svg.draw_line(chart, "threshold", _x_percent(0), _y_pixels(threshold), _x_percent(1), _y_pixels(threshold))
    svg.draw_text(chart, "note", _x_percent(0), _y_pixels(threshold) - 6, _threshold_text(threshold), "start")
    for row in rows:
        if row.role == "chosen":
            position = x_position(row.dose)
            note = f"chosen: {format_number(row.dose)}"
            _draw_vertical_line(chart, "chosen", _x_percent(position), position, BOTTOM, note)
    shares: dict[Series, list[float | None]] = {
        "refusal": [row.over_refusal for row in rows],
        "task": [row.task_accuracy for row in rows],
        "score": [row.score for row in rows],
    }
    for series, column in shares.items():
        group = svg.add_element(chart, "g", class_=f"series {series}")
        points = [(x_position(row.dose), share) for row, share in zip(rows, column, strict=True) if share is not None]
        _draw_path(group, points)
        for x, y in points:
            svg.draw_mark(group, SERIES_SHAPES[series], _x_percent(x), _y_pixels(y), format_percent(y))
    return tostring(chart, encoding="unicode")


def draw_frontier(report: Report, measure: str, threshold: float) -> str:
    """Draw harmful score against cost for every dose of every method; empty when no cost was measured."""
    cost_name = frontier_cost_name(report)
    has_task = report.evaluations.before.task is not None
    costs = [point.task_accuracy if has_task else point.over_refusal for point in report.frontier]
    points = [(point, cost) for point, cost in zip(report.frontier, costs, strict=True) if cost is not None]
    if not points:
        return ""
    y_end, y_ticks = _scale_y_axis(max(cost for _, cost in points))
    title = f"{measure} against {cost_name.lower()}, dose by dose of each method, on the selection split"
    chart = svg.new_chart("frontier", BOTTOM + 40, title)
    _draw_axes(chart, QUARTERS, y_ticks, measure.lower())
    svg.draw_text(chart, "tick", "0%", 14, cost_name, "start")
    _draw_vertical_line(chart, "threshold", _x_percent(threshold), threshold, BOTTOM, _threshold_text(threshold), 30)
    # Later elements are drawn on top: the run's own method covers the controls.
    for kind in reversed(frontier_kinds(report)):
        group = svg.add_element(chart, "g", class_=f"series {kind}")
        _draw_path(group, [(point.harmful_score, cost / y_end) for point, cost in points if kind in _path_kinds(point)])
        for point, cost in points:
            if point_kind(point) != kind:
                continue
            x, y = _x_percent(point.harmful_score), _y_pixels(cost / y_end)
            svg.draw_line(group, "bar", _x_percent(point.bounds[0]), y, _x_percent(point.bounds[1]), y)
            svg.draw_mark(group, POINT_SHAPES[kind], x, y, _describe_point(point, cost))
            if is_chosen(point, report):
                svg.add_element(group, "circle", class_="ring", cx=x, cy=f"{y:.1f}", r=11)
    return tostring(chart, encoding="unicode")


def draw_history(entries: Sequence[HistoryEntry]) -> str:
    """Draw the scores of the tested revisions of one model with their bounds, oldest first.

    Scores of different judges are not joined by a line.
    """
    models = [entry.model for entry in entries]
    y_end, y_ticks = _scale_y_axis(max(max(model.bounds[1], model.threshold) for model in models))
    measure = name_measures(model.judge.measure for model in models)
    chart = svg.new_chart("history", BOTTOM + 40, f"{measure} of each report, oldest first")
    step = 1 / len(models)
    positions = [(index + 0.5) * step for index in range(len(models))]
    labels = [describe_revision(model, short=True) for model in models]
    # From the newest, which always has its label.
    ticks = _thin_out(list(zip(positions, labels, strict=True))[::-1])
    _draw_axes(chart, ticks, y_ticks, "day of the report" if all(model.written_at for model in models) else "report")
    for position, model in zip(positions, models, strict=True):
        y = _y_pixels(model.threshold / y_end)
        svg.draw_line(chart, "threshold", _x_percent(position - step / 2), y, _x_percent(position + step / 2), y)
    group = svg.add_element(chart, "g", class_="series score")
    for (x1, first), (x2, second) in pairwise(zip(positions, models, strict=True)):
        if first.judge == second.judge:
            _draw_path(group, [(x1, first.bounded_score / y_end), (x2, second.bounded_score / y_end)])
    for position, model in zip(positions, models, strict=True):
        x = _x_percent(position)
        mark = svg.add_element(chart, "g", class_=f"series {model.verdict}")
        low, high = (_y_pixels(bound / y_end) for bound in model.bounds)
        svg.draw_line(mark, "bar", x, low, x, high)
        tooltip = f"{describe_revision(model)}: {format_percent(model.bounded_score)}, {format_interval(model.bounds)}"
        svg.draw_mark(mark, VERDICT_SHAPES[model.verdict], x, _y_pixels(model.bounded_score / y_end), tooltip)
    last = models[-1].threshold
    svg.draw_text(chart, "note", _x_percent(1), _y_pixels(last / y_end) - 6, _threshold_text(last), "end")
    return tostring(chart, encoding="unicode")


def describe_revision(model: ComparedModel, *, short: bool = False) -> str:
    """Return the day of a report, the commit, or both; the run where neither is known."""
    day = flatten(model.written_at[:10]) if model.written_at else ""
    commit = flatten(short_sha(model.source.revision)) if model.source.revision else ""
    if short:
        return day[5:] or commit[:7] or model.run_id[:7]
    return " ".join(filter(None, (day, commit))) or f"run {model.run_id[:12]}"


def point_kind(point: FrontierPoint) -> PointKind:
    """Return the kind of a point: dose 0 is the input model, and `scale` at dose 1 is the reference."""
    if point.dose == 0:
        return "input"
    return "reference" if point.method == "scale" and point.dose == 1 else point.method


def display_kind(kind: PointKind) -> str:
    """Return the name of a kind of point for people."""
    return f"the {kind} model" if kind in ("input", "reference") else kind


def is_chosen(point: FrontierPoint, report: Report) -> bool:
    """Return whether the run's repair has this method and dose."""
    return report.repair is not None and (point.method, point.dose) == (report.repair.method, report.repair.dose)


def frontier_cost_name(report: Report) -> str:
    """Name the y axis of the frontier: task accuracy, or over-refusal when the run has no task."""
    return "Task accuracy" if report.evaluations.before.task else "Over-refusal"


def frontier_kinds(report: Report) -> list[PointKind]:
    """List the kinds of point on the frontier chart, in the order of the record."""
    return list(dict.fromkeys(point_kind(point) for point in report.frontier))


def draw_bar(share: float, role: ModelRole) -> str:
    """Draw a share as a bar next to its value; screen readers skip it."""
    bar = Element("svg", {"class": f"share {role}", "width": "100%", "height": "8", "aria-hidden": "true"})
    svg.add_element(bar, "rect", class_="track", width="100%", height=8, rx=2)
    svg.add_element(bar, "rect", class_="fill", width=f"{100 * share:.1f}%", height=8, rx=2)
    return tostring(bar, encoding="unicode")


def render_text_chart(rows: Sequence[ModelRow], threshold: float) -> str:
    """Draw the intervals in characters: GitHub removes SVG and embedded images from a job summary.

    The labels are those of the report's own rows; no text of the model or its repository is in it.
    """
    width = max(len(row.label) for row in rows)
    margin = " " * (width + 2)
    limit = to_cell(threshold)
    scale = ""
    for share, label in QUARTERS:
        scale = scale.ljust(to_cell(share) - len(label) // 2) + label
    note = _threshold_text(threshold)
    note_start = limit if limit + len(note) <= CELLS + 1 else limit + 1 - len(note)
    return "\n".join(
        [
            margin + scale,
            *(f"{row.label:<{width}}  {draw_cells(row, limit)}  {_score_text(row)}" for row in rows),
            margin + " " * note_start + note,
        ]
    )


def to_cell(share: float) -> int:
    """Return the cell of a share, 0 to CELLS; shares outside [0, 1] are clipped."""
    return round(CELLS * min(max(share, 0.0), 1.0))


def draw_cells(row: ModelRow, limit: int) -> str:
    """Draw one model in CELLS + 1 characters: bounds, score, and the threshold at cell `limit` behind them."""
    cells = [" "] * (CELLS + 1)
    cells[limit] = "║"
    lower, upper = map(to_cell, row.bounds)
    cells[lower : upper + 1] = "─" * (upper + 1 - lower)
    cells[lower], cells[upper] = "├", "┤"
    cells[to_cell(row.bounded_score)] = SCORE
    return "".join(cells)


def _score_text(row: ModelRow) -> str:
    return format_percent(row.score) if row.corrected is None else f"{format_percent(row.corrected)} corrected"


def _threshold_text(threshold: float) -> str:
    return f"threshold {format_percent(threshold)}"


def _scale_y_axis(highest: float) -> tuple[float, list[tuple[float, str]]]:
    """Return the end of a y axis that holds `highest`, and its ticks."""
    end = next((end for end in Y_AXIS_ENDS if end >= highest), 1.0)
    return end, [(tick / 4, f"{100 * end * tick / 4:g} %") for tick in range(5)]


def _thin_out(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return the ticks, in their order, whose labels do not overlap."""
    kept: list[tuple[float, str]] = []
    for position, label in ticks:
        if not kept or abs(position - kept[-1][0]) >= MIN_TICK_GAP:
            kept.append((position, label))
    return kept


def _draw_axes(
    chart: Element, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]], x_title: str
) -> None:
    for position, label in y_ticks:
        y = _y_pixels(position)
        svg.draw_line(chart, "grid", _x_percent(0), y, _x_percent(1), y)
        svg.draw_text(chart, "tick", f"{LEFT - 1.5}%", y + 4, label, "end")
    for position, label in x_ticks:
        x = _x_percent(position)
        svg.draw_line(chart, "grid", x, BOTTOM, x, BOTTOM + 5)
        svg.draw_text(chart, "tick", x, BOTTOM + 19, label, "middle")
    svg.draw_text(chart, "tick", _x_percent(0.5), BOTTOM + 36, x_title, "middle")


def _draw_vertical_line(
    chart: Element, css_class: str, x: str, position: float, bottom: float, note: str, top: float = 14
) -> None:
    svg.draw_line(chart, css_class, x, top + 6, x, bottom)
    svg.draw_text(chart, "note", x, top, note, svg.text_anchor(position))


def _draw_path(group: Element, points: Sequence[tuple[float, float]]) -> None:
    for (x1, y1), (x2, y2) in pairwise(points):
        svg.draw_line(group, "curve", _x_percent(x1), _y_pixels(y1), _x_percent(x2), _y_pixels(y2))


def _describe_point(point: FrontierPoint, cost: float) -> str:
    kind = point_kind(point)
    dose = f" at dose {format_number(point.dose)}" if kind == point.method else ""
    return f"{display_kind(kind)}{dose}: {format_percent(point.harmful_score)}, {format_percent(cost)}"


def _path_kinds(point: FrontierPoint) -> Sequence[PointKind]:
    """Return the methods whose line runs through a point: all start at the input, `scale` ends at the reference."""
    special: Mapping[PointKind, Sequence[PointKind]] = {"input": get_args(Method), "reference": ["scale"]}
    kind = point_kind(point)
    return special.get(kind, [kind])


def _x_percent(position: float) -> str:
    return f"{LEFT + WIDTH * position:.2f}%"


def _y_pixels(position: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * position
