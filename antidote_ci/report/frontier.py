"""The frontier: what each dose of each method removes against what it costs, as rows and as a chart. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args
from xml.etree.ElementTree import Element, tostring

from antidote_ci.records import FrontierPoint, Method, Report
from antidote_ci.report import drawing
from antidote_ci.report.drawing import Shape
from antidote_ci.report.text import format_interval, format_number, format_percent

PointOwner = Literal["input", "reference"] | Method

_NAMES: Mapping[PointOwner, str] = {"input": "the input model", "reference": "the reference"}
SHAPES: dict[PointOwner, Shape] = {
    "input": "square",
    "reference": "diamond",
    "antidote": "circle",
    "taylor": "wedge",
    "scale": "triangle",
    "random": "cross",
}
TOPS = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Where the axis of the cost may end."""
LEFT, WIDTH = 13.0, 84.0
TOP, BOTTOM = 62, 362
RING = 11
LABEL_HEIGHT, CHARACTER_WIDTH, PAGE_WIDTH = 13, 7.0, 620.0
"""In pixels, to keep labels apart: on a page as wide as a small laptop shows it."""
Box = tuple[float, float, float]
"""Of a label: left, right, and where it stands."""


@dataclass(frozen=True)
class FrontierRow:
    """One dose of one method, for people."""

    name: str
    dose: str
    score: str
    bounds: str
    task: str
    over_refusal: str
    degenerate: str
    outcome: str
    chosen: bool


def frontier_rows(report: Report) -> list[FrontierRow]:
    """Every point, as measured: the input model, the doses of each method, the reference."""
    return [
        FrontierRow(
            name=display_method(_point_owner(each)),
            dose=format_number(each.dose) if _is_dose(each) else "–",
            score=format_percent(each.harmful_score),
            bounds=format_interval(each.bounds),
            task=format_percent(each.task_accuracy)
            + (f" {format_interval(each.task_bounds)}" if each.task_bounds else ""),
            over_refusal=format_percent(each.over_refusal),
            degenerate=format_percent(each.degenerate),
            outcome="✓ passes" if each.passes else "✗ fails",
            chosen=_is_chosen(each, report),
        )
        for each in report.frontier
    ]


def cost_name(report: Report) -> str:
    """What the chart holds against the score: the task's accuracy, or over-refusal where there is no task."""
    return "Task accuracy" if report.evaluations.before.task else "Over-refusal"


def list_methods(report: Report) -> list[PointOwner]:
    """Whose marks are on the chart."""
    return list(dict.fromkeys(_point_owner(each) for each in report.frontier))


def draw_frontier(report: Report, measure: str, threshold: float) -> str:
    """Score against cost, with the score's bounds; empty where no cost was measured."""
    costs = [_point_cost(each, report) for each in report.frontier]
    points = [(each, share) for each, share in zip(report.frontier, costs, strict=True) if share is not None]
    if not points:
        return ""
    highest = max(share for _, share in points)
    top = next(each for each in TOPS if each >= highest)
    svg = drawing.new_chart(
        "frontier",
        BOTTOM + 40,
        f"{measure} against {cost_name(report).lower()}, dose by dose of each method, on the selection prompts",
        _describe_points(points, measure, cost_name(report)),
    )

    def height(share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * share / top

    _draw_axes(svg, measure, cost_name(report), threshold, top)
    # What comes last lies on top: the run's own method above the controls.
    for who in reversed(list_methods(report)):
        own = [(each, share) for each, share in points if _point_owner(each) == who]
        group = drawing.add_element(svg, "g", class_=f"series {who}")
        _draw_path(group, [(each, height(share)) for each, share in points if who in _line_owners(each)])
        for each, share in own:
            y = height(share)
            drawing.draw_line(group, "bar", _x_percent(each.bounds[0]), y, _x_percent(each.bounds[1]), y)
            drawing.draw_mark(group, SHAPES[who], _x_percent(each.harmful_score), y)
            if _is_chosen(each, report):
                drawing.add_element(
                    group, "circle", class_="ring", cx=_x_percent(each.harmful_score), cy=f"{y:.1f}", r=RING
                )
    labels: list[Box] = []
    for each, share in points:
        if _is_dose(each):
            group = drawing.add_element(svg, "g", class_=f"series {each.method}")
            _draw_label(group, format_number(each.dose), each.harmful_score, height(share), labels)
    return tostring(svg, encoding="unicode")


def method_swatch(who: PointOwner) -> str:
    """The legend's mark."""
    return drawing.draw_swatch(who, SHAPES[who], lined=False)


def display_method(who: PointOwner) -> str:
    """A method is called by its own name."""
    return _NAMES.get(who, who)


def _point_owner(point: FrontierPoint) -> PointOwner:
    """A fine-tuning that is not shrunk at all is the input model, one shrunk to nothing the reference."""
    if point.dose == 0:
        return "input"
    return "reference" if point.method == "scale" and point.dose == 1 else point.method


def _is_dose(point: FrontierPoint) -> bool:
    return _point_owner(point) == point.method


def _is_chosen(point: FrontierPoint, report: Report) -> bool:
    return report.repair is not None and (point.method, point.dose) == (report.repair.method, report.repair.dose)


def _point_cost(point: FrontierPoint, report: Report) -> float | None:
    return point.task_accuracy if report.evaluations.before.task else point.over_refusal


def _draw_axes(svg: Element, measure: str, cost_name: str, threshold: float, top: float) -> None:
    for tick in range(5):
        y, x = BOTTOM - (BOTTOM - TOP) * tick / 4, _x_percent(tick / 4)
        drawing.draw_line(svg, "grid", f"{LEFT}%", y, f"{LEFT + WIDTH}%", y)
        drawing.draw_text(svg, "tick", f"{LEFT - 1.5}%", y + 4, f"{100 * top * tick / 4:g} %", "end")
        drawing.draw_line(svg, "grid", x, BOTTOM, x, BOTTOM + 5)
        drawing.draw_text(svg, "tick", x, BOTTOM + 19, f"{25 * tick} %", "middle")
    drawing.draw_line(svg, "threshold", _x_percent(threshold), 36, _x_percent(threshold), BOTTOM)
    drawing.draw_text(
        svg, "note", _x_percent(threshold), 30, f"threshold {format_percent(threshold)}", drawing.text_anchor(threshold)
    )
    drawing.draw_text(svg, "tick", "0%", 14, cost_name, "start")
    drawing.draw_text(svg, "tick", f"{LEFT + WIDTH / 2:g}%", BOTTOM + 36, measure.lower(), "middle")


def _line_owners(point: FrontierPoint) -> list[PointOwner]:
    """The methods whose line passes here: all of them begin at the input model, `scale` ends at the reference."""
    who = _point_owner(point)
    return list(get_args(Method)) if who == "input" else ["scale"] if who == "reference" else [who]


def _draw_path(group: Element, places: Sequence[tuple[FrontierPoint, float]]) -> None:
    for (one, y1), (other, y2) in pairwise(places):
        drawing.draw_line(group, "curve", _x_percent(one.harmful_score), y1, _x_percent(other.harmful_score), y2)


def _draw_label(group: Element, words: str, share: float, y: float, taken: list[Box]) -> None:
    """Above its mark or below, where no other label stands; the table has those that find no room."""
    width, anchor = CHARACTER_WIDTH * len(words), drawing.text_anchor(share)
    left = PAGE_WIDTH * share - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    for place in (y - RING - 3, y + RING + 11):
        box = (left, left + width, place)
        if place < BOTTOM and not any(_is_overlapping(box, other) for other in taken):
            taken.append(box)
            drawing.draw_text(group, "dose", _x_percent(share), place, words, anchor)
            return


def _is_overlapping(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and abs(one[2] - other[2]) < LABEL_HEIGHT


def _describe_points(points: Iterable[tuple[FrontierPoint, float]], measure: str, cost_name: str) -> str:
    told: dict[PointOwner, list[str]] = {}
    for each, share in points:
        dose = f"dose {format_number(each.dose)}: " if _is_dose(each) else ""
        told.setdefault(_point_owner(each), []).append(
            f"{dose}{format_percent(each.harmful_score)} and {format_percent(share)}"
        )
    lines = [f"{display_method(who)}, {'; '.join(values)}." for who, values in told.items()]
    return f"{measure} and {cost_name.lower()} of {' '.join(lines)}"


def _x_percent(share: float) -> str:
    return f"{LEFT + WIDTH * share:.2f}%"
