"""The chart of a sequential test: evidence for passing and for failing against the prompts answered. Pure."""

import math
from collections.abc import Sequence
from typing import Literal
from xml.etree.ElementTree import Element, tostring

from antidote_ci.records import Evaluation, JudgeResult, SequentialLook
from antidote_ci.report import drawing
from antidote_ci.report.drawing import Shape
from antidote_ci.report.text import format_number

Side = Literal["passing", "failing"]

SHAPES: dict[Side, Shape] = {"passing": "circle", "failing": "square"}
LOWEST, HIGHEST = -3, 3
"""Powers of ten between which e-values are drawn: one decade beyond what decides, three below no evidence."""
TOP, BOTTOM = 28, 232
LEFT, WIDTH = 14.0, 83.0
MAX_POINTS = 400
DESCRIBED_LOOKS = 5
"""Moments that the description gives to readers of screens."""


def draw_evidence(evaluation: Evaluation, reading: JudgeResult, identity: str) -> str:
    """E-values on a log axis, the line at which they decide, and where the test stopped; empty without a trace."""
    if not reading.trace:
        return ""
    looks = reading.trace
    answered, planned = looks[-1].n, evaluation.planned
    # A test that stops very early would otherwise be a smear at the left edge.
    end = min(planned, 4 * answered)
    enough = 1 / (1 - evaluation.confidence)
    stopped = answered < planned or reading.decided_by == "sequence"
    outcome = (
        f"stopped after {format_number(answered)} of {format_number(planned)}"
        if stopped
        else f"all {format_number(planned)} answered"
    )
    svg = drawing.new_chart(
        "evidence",
        BOTTOM + 40,
        f"Evidence for passing and for failing as the prompts were answered, by {reading.judge.name}",
        f"{_describe_looks(looks)} An e-value of {format_number(enough)} decides. Prompts: {outcome}.",
        identity,
    )
    _draw_axes(svg, end, enough)
    at = answered / end
    drawing.draw_line(svg, "chosen", _x_percent(at), TOP - 6, _x_percent(at), BOTTOM)
    drawing.draw_text(svg, "note", _x_percent(at), 14, outcome, _note_anchor(at))
    drawn = _thin_looks(looks)
    values: dict[Side, list[float]] = {
        "failing": [each.for_fail for each in drawn],
        "passing": [each.for_pass for each in drawn],
    }
    for side, logarithms in values.items():
        group = drawing.add_element(svg, "g", class_=f"series {side}")
        # Before the first answer there is no evidence either way.
        start = [] if drawn[0].n == 0 else [(0.0, _y_pixels(0.0))]
        points = start + [
            (each.n / end, _y_pixels(logarithm)) for each, logarithm in zip(drawn, logarithms, strict=True)
        ]
        drawing.draw_curve(group, (f"{LEFT}%", f"{WIDTH}%", BOTTOM), points)
        drawing.draw_mark(group, SHAPES[side], _x_percent(at), points[-1][1])
    return tostring(svg, encoding="unicode")


def evidence_swatch(side: Side) -> str:
    """The legend's mark of one line."""
    return drawing.draw_swatch(side, SHAPES[side])


def format_e_value(logarithm: float) -> str:
    """An e-value from its natural logarithm, for people; beyond the chart's range only that it is."""
    power = logarithm / math.log(10)
    if power > HIGHEST:
        return f"more than {format_number(10**HIGHEST)}"
    if power < LOWEST:
        return f"less than {10**LOWEST:g}"
    return format_number(math.exp(logarithm))


def _draw_axes(svg: Element, end: int, enough: float) -> None:
    for power in range(LOWEST, HIGHEST + 1):
        y = _y_pixels(power * math.log(10))
        drawing.draw_line(svg, "grid", f"{LEFT}%", y, f"{LEFT + WIDTH}%", y)
        label = format_number(10**power) if power >= 0 else f"1/{format_number(10**-power)}"
        drawing.draw_text(svg, "tick", f"{LEFT - 1.5}%", y + 4, label, "end")
    y = _y_pixels(math.log(enough))
    drawing.draw_line(svg, "threshold", f"{LEFT}%", y, f"{LEFT + WIDTH}%", y)
    drawing.draw_text(svg, "note", f"{LEFT + WIDTH}%", y - 6, f"{format_number(enough)} decides", "end")
    step = _tick_step(end)
    for n in range(0, end + 1, step):
        drawing.draw_line(svg, "grid", _x_percent(n / end), BOTTOM, _x_percent(n / end), BOTTOM + 5)
        drawing.draw_text(svg, "tick", _x_percent(n / end), BOTTOM + 19, format_number(n), "middle")
    drawing.draw_text(svg, "tick", f"{LEFT + WIDTH / 2:g}%", BOTTOM + 36, "prompts answered", "middle")


def _tick_step(end: int) -> int:
    """Between the ticks: 1, 2 or 5 times a power of ten, so that there are at most six."""
    rough = max(1, math.ceil(end / 5))
    power = int("1" + "0" * (len(str(rough)) - 1))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough)


def _describe_looks(looks: Sequence[SequentialLook]) -> str:
    chosen = [looks[math.ceil((index + 1) * len(looks) / DESCRIBED_LOOKS) - 1] for index in range(DESCRIBED_LOOKS)]
    told = dict.fromkeys(
        f"After {format_number(each.n)} prompts: {format_e_value(each.for_pass)} for passing, "
        f"{format_e_value(each.for_fail)} for failing."
        for each in chosen
    )
    return " ".join(told)


def _thin_looks(looks: Sequence[SequentialLook]) -> list[SequentialLook]:
    """At most MAX_POINTS of them, with the last."""
    stride = math.ceil(len(looks) / MAX_POINTS)
    return [*looks[: len(looks) - 1 : stride], looks[-1]]


def _x_percent(share: float) -> str:
    return f"{LEFT + WIDTH * share:.2f}%"


def _y_pixels(logarithm: float) -> float:
    power = min(max(logarithm / math.log(10), LOWEST), HIGHEST)
    return BOTTOM - (BOTTOM - TOP) * (power - LOWEST) / (HIGHEST - LOWEST)


def _note_anchor(share: float) -> str:
    """The note is long: from the middle on it grows to the left."""
    return "start" if share < 0.4 else "end"
