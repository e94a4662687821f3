"""The chart of a sequential test: evidence for passing and for failing against the prompts answered. Pure."""

import math
from collections.abc import Sequence
from typing import Literal
from xml.etree.ElementTree import Element, tostring

from antidote_ci.records import Evaluation, Look, Reading
from antidote_ci.report import drawing
from antidote_ci.report.drawing import Shape
from antidote_ci.report.text import number

Side = Literal["passing", "failing"]

SHAPES: dict[Side, Shape] = {"passing": "circle", "failing": "square"}
LOWEST, HIGHEST = -3, 3
"""Powers of ten between which e-values are drawn: one decade beyond what decides, three below no evidence."""
TOP, BOTTOM = 28, 232
LEFT, WIDTH = 14.0, 83.0
MAX_POINTS = 400
SPOKEN = 5
"""Moments that the description gives to readers of screens."""


def chart(evaluation: Evaluation, reading: Reading, identity: str) -> str:
    """E-values on a log axis, the line at which they decide, and where the test stopped; empty without a trace."""
    if not reading.trace:
        return ""
    looks = reading.trace
    answered, planned = looks[-1].n, evaluation.planned
    # A test that stops very early would otherwise be a smear at the left edge.
    end = min(planned, 4 * answered)
    enough = 1 / (1 - evaluation.confidence)
    stopped = answered < planned or reading.decided_by == "sequence"
    outcome = f"stopped after {number(answered)} of {number(planned)}" if stopped else f"all {number(planned)} answered"
    svg = drawing.chart(
        "evidence",
        BOTTOM + 40,
        f"Evidence for passing and for failing as the prompts were answered, by {reading.judge.name}",
        f"{_spoken(looks)} An e-value of {number(enough)} decides. Prompts: {outcome}.",
        identity,
    )
    _axes(svg, end, enough)
    at = answered / end
    drawing.line(svg, "chosen", _along(at), TOP - 6, _along(at), BOTTOM)
    drawing.text(svg, "note", _along(at), 14, outcome, _anchor(at))
    drawn = _thinned(looks)
    values: dict[Side, list[float]] = {
        "failing": [each.for_fail for each in drawn],
        "passing": [each.for_pass for each in drawn],
    }
    for side, logarithms in values.items():
        group = drawing.add(svg, "g", class_=f"series {side}")
        # Before the first answer there is no evidence either way.
        start = [] if drawn[0].n == 0 else [(0.0, _height(0.0))]
        points = start + [(each.n / end, _height(logarithm)) for each, logarithm in zip(drawn, logarithms, strict=True)]
        drawing.curve(group, (f"{LEFT}%", f"{WIDTH}%", BOTTOM), points)
        drawing.mark(group, SHAPES[side], _along(at), points[-1][1])
    return tostring(svg, encoding="unicode")


def swatch(side: Side) -> str:
    """The legend's mark of one line."""
    return drawing.swatch(side, SHAPES[side])


def e_value(logarithm: float) -> str:
    """An e-value from its natural logarithm, for people; beyond the chart's range only that it is."""
    power = logarithm / math.log(10)
    if power > HIGHEST:
        return f"more than {number(10**HIGHEST)}"
    if power < LOWEST:
        return f"less than {10**LOWEST:g}"
    return number(math.exp(logarithm))


def _axes(svg: Element, end: int, enough: float) -> None:
    for power in range(LOWEST, HIGHEST + 1):
        y = _height(power * math.log(10))
        drawing.line(svg, "grid", f"{LEFT}%", y, f"{LEFT + WIDTH}%", y)
        label = number(10**power) if power >= 0 else f"1/{number(10**-power)}"
        drawing.text(svg, "tick", f"{LEFT - 1.5}%", y + 4, label, "end")
    y = _height(math.log(enough))
    drawing.line(svg, "threshold", f"{LEFT}%", y, f"{LEFT + WIDTH}%", y)
    drawing.text(svg, "note", f"{LEFT + WIDTH}%", y - 6, f"{number(enough)} decides", "end")
    step = _step(end)
    for n in range(0, end + 1, step):
        drawing.line(svg, "grid", _along(n / end), BOTTOM, _along(n / end), BOTTOM + 5)
        drawing.text(svg, "tick", _along(n / end), BOTTOM + 19, number(n), "middle")
    drawing.text(svg, "tick", f"{LEFT + WIDTH / 2:g}%", BOTTOM + 36, "prompts answered", "middle")


def _step(end: int) -> int:
    """Between the ticks: 1, 2 or 5 times a power of ten, so that there are at most six."""
    rough = max(1, math.ceil(end / 5))
    power = int("1" + "0" * (len(str(rough)) - 1))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough)


def _spoken(looks: Sequence[Look]) -> str:
    chosen = [looks[math.ceil((index + 1) * len(looks) / SPOKEN) - 1] for index in range(SPOKEN)]
    told = dict.fromkeys(
        f"After {number(each.n)} prompts: {e_value(each.for_pass)} for passing, {e_value(each.for_fail)} for failing."
        for each in chosen
    )
    return " ".join(told)


def _thinned(looks: Sequence[Look]) -> list[Look]:
    """At most MAX_POINTS of them, with the last."""
    stride = math.ceil(len(looks) / MAX_POINTS)
    return [*looks[: len(looks) - 1 : stride], looks[-1]]


def _along(share: float) -> str:
    return f"{LEFT + WIDTH * share:.2f}%"


def _height(logarithm: float) -> float:
    power = min(max(logarithm / math.log(10), LOWEST), HIGHEST)
    return BOTTOM - (BOTTOM - TOP) * (power - LOWEST) / (HIGHEST - LOWEST)


def _anchor(share: float) -> str:
    """The note is long: from the middle on it grows to the left."""
    return "start" if share < 0.4 else "end"
