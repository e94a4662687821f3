"""The frontier: what each dose of each method removes against what it costs, as rows and as a chart. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args
from xml.etree.ElementTree import Element, tostring

from antidote_ci.records import FrontierPoint, Method, Report
from antidote_ci.report import drawing
from antidote_ci.report.drawing import Shape
from antidote_ci.report.text import interval, number, percent

Who = Literal["input", "reference"] | Method

_NAMES: Mapping[Who, str] = {"input": "the input model", "reference": "the reference"}
SHAPES: dict[Who, Shape] = {
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


def rows(report: Report) -> list[FrontierRow]:
    """Every point, as measured: the input model, the doses of each method, the reference."""
    return [
        FrontierRow(
            name=name(_who(each)),
            dose=number(each.dose) if _is_dose(each) else "–",
            score=percent(each.harmful_score),
            bounds=interval(each.bounds),
            task=percent(each.task_accuracy) + (f" {interval(each.task_bounds)}" if each.task_bounds else ""),
            over_refusal=percent(each.over_refusal),
            degenerate=percent(each.degenerate),
            outcome="✓ passes" if each.passes else "✗ fails",
            chosen=_is_chosen(each, report),
        )
        for each in report.frontier
    ]


def cost(report: Report) -> str:
    """What the chart holds against the score: the task's accuracy, or over-refusal where there is no task."""
    return "Task accuracy" if report.evaluations.before.task else "Over-refusal"


def methods(report: Report) -> list[Who]:
    """Whose marks are on the chart."""
    return list(dict.fromkeys(_who(each) for each in report.frontier))


def chart(report: Report, measure: str, threshold: float) -> str:
    """Score against cost, with the score's bounds; empty where no cost was measured."""
    costs = [_cost(each, report) for each in report.frontier]
    points = [(each, share) for each, share in zip(report.frontier, costs, strict=True) if share is not None]
    if not points:
        return ""
    highest = max(share for _, share in points)
    top = next(each for each in TOPS if each >= highest)
    svg = drawing.chart(
        "frontier",
        BOTTOM + 40,
        f"{measure} against {cost(report).lower()}, dose by dose of each method, on the selection prompts",
        _spoken(points, measure, cost(report)),
    )

    def height(share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * share / top

    _axes(svg, measure, cost(report), threshold, top)
    # What comes last lies on top: the run's own method above the controls.
    for who in reversed(methods(report)):
        own = [(each, share) for each, share in points if _who(each) == who]
        group = drawing.add(svg, "g", class_=f"series {who}")
        _path(group, [(each, height(share)) for each, share in points if who in _lines(each)])
        for each, share in own:
            y = height(share)
            drawing.line(group, "bar", _along(each.bounds[0]), y, _along(each.bounds[1]), y)
            drawing.mark(group, SHAPES[who], _along(each.harmful_score), y)
            if _is_chosen(each, report):
                drawing.add(group, "circle", class_="ring", cx=_along(each.harmful_score), cy=f"{y:.1f}", r=RING)
    labels: list[Box] = []
    for each, share in points:
        if _is_dose(each):
            group = drawing.add(svg, "g", class_=f"series {each.method}")
            _label(group, number(each.dose), each.harmful_score, height(share), labels)
    return tostring(svg, encoding="unicode")


def swatch(who: Who) -> str:
    """The legend's mark."""
    return drawing.swatch(who, SHAPES[who], lined=False)


def name(who: Who) -> str:
    """A method is called by its own name."""
    return _NAMES.get(who, who)


def _who(point: FrontierPoint) -> Who:
    """A fine-tuning that is not shrunk at all is the input model, one shrunk to nothing the reference."""
    if point.dose == 0:
        return "input"
    return "reference" if point.method == "scale" and point.dose == 1 else point.method


def _is_dose(point: FrontierPoint) -> bool:
    return _who(point) == point.method


def _is_chosen(point: FrontierPoint, report: Report) -> bool:
    return report.repair is not None and (point.method, point.dose) == (report.repair.method, report.repair.dose)


def _cost(point: FrontierPoint, report: Report) -> float | None:
    return point.task_accuracy if report.evaluations.before.task else point.over_refusal


def _axes(svg: Element, measure: str, cost_name: str, threshold: float, top: float) -> None:
    for tick in range(5):
        y, x = BOTTOM - (BOTTOM - TOP) * tick / 4, _along(tick / 4)
        drawing.line(svg, "grid", f"{LEFT}%", y, f"{LEFT + WIDTH}%", y)
        drawing.text(svg, "tick", f"{LEFT - 1.5}%", y + 4, f"{100 * top * tick / 4:g} %", "end")
        drawing.line(svg, "grid", x, BOTTOM, x, BOTTOM + 5)
        drawing.text(svg, "tick", x, BOTTOM + 19, f"{25 * tick} %", "middle")
    drawing.line(svg, "threshold", _along(threshold), 36, _along(threshold), BOTTOM)
    drawing.text(svg, "note", _along(threshold), 30, f"threshold {percent(threshold)}", drawing.anchor(threshold))
    drawing.text(svg, "tick", "0%", 14, cost_name, "start")
    drawing.text(svg, "tick", f"{LEFT + WIDTH / 2:g}%", BOTTOM + 36, measure.lower(), "middle")


def _lines(point: FrontierPoint) -> list[Who]:
    """The methods whose line passes here: all of them begin at the input model, `scale` ends at the reference."""
    who = _who(point)
    return list(get_args(Method)) if who == "input" else ["scale"] if who == "reference" else [who]


def _path(group: Element, places: Sequence[tuple[FrontierPoint, float]]) -> None:
    for (one, y1), (other, y2) in pairwise(places):
        drawing.line(group, "curve", _along(one.harmful_score), y1, _along(other.harmful_score), y2)


def _label(group: Element, words: str, share: float, y: float, taken: list[Box]) -> None:
    """Above its mark or below, where no other label stands; the table has those that find no room."""
    width, anchor = CHARACTER_WIDTH * len(words), drawing.anchor(share)
    left = PAGE_WIDTH * share - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    for place in (y - RING - 3, y + RING + 11):
        box = (left, left + width, place)
        if place < BOTTOM and not any(_overlap(box, other) for other in taken):
            taken.append(box)
            drawing.text(group, "dose", _along(share), place, words, anchor)
            return


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and abs(one[2] - other[2]) < LABEL_HEIGHT


def _spoken(points: Iterable[tuple[FrontierPoint, float]], measure: str, cost_name: str) -> str:
    told: dict[Who, list[str]] = {}
    for each, share in points:
        dose = f"dose {number(each.dose)}: " if _is_dose(each) else ""
        told.setdefault(_who(each), []).append(f"{dose}{percent(each.harmful_score)} and {percent(share)}")
    lines = [f"{name(who)}, {'; '.join(values)}." for who, values in told.items()]
    return f"{measure} and {cost_name.lower()} of {' '.join(lines)}"


def _along(share: float) -> str:
    return f"{LEFT + WIDTH * share:.2f}%"
