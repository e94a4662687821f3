"""Charts of the report: every mark at its value and inside the frame, for any report."""

import dataclasses
import re
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.records import DoseAttempt, FrontierPoint, Report
from antidote_ci.report import figures
from antidote_ci.report.figures import CELLS, SCORE, draw_cells, render_text_chart, to_cell
from antidote_ci.report.page import render_page
from antidote_ci.report.tables import attempt_rows, model_rows
from tests.report.samples import (
    BARE,
    CALIBRATED_REPAIR,
    EVERY_KIND,
    FRONTIER,
    NAMES,
    NO_TASK,
    REPAIR,
    REPAIRED,
    WITH_FRONTIER,
    disguised,
)

SHARES = st.floats(0, 1)
POINTS = st.builds(
    lambda method, dose, scores, task, refusal: FrontierPoint(
        method, dose, dose, scores[1], (scores[0], scores[2]), task, (0.0, 1.0), refusal, 0.0, passes=False
    ),
    st.sampled_from(["antidote", "taylor", "scale", "random"]),
    SHARES,
    st.tuples(SHARES, SHARES, SHARES).map(sorted),
    SHARES,
    st.none() | SHARES,
)


def frontier(report: Report) -> Element:
    return fromstring(figures.draw_frontier(report, "Harmful score", 0.3))  # noqa: S314 - built by this package


def marks(chart: Element) -> list[tuple[str, float, float]]:
    """Series, x in percent and y in pixels of every mark."""
    return [
        (str(group.get("class")).removeprefix("series "), float(str(mark.get("x"))[:-1]), float(str(mark.get("y"))))
        for group in chart.iter("g")
        for mark in group.iter("svg")
    ]


def assert_within_frame(chart: Element) -> None:
    for element in chart.iter():
        for name in ("x", "x1", "x2", "cx"):
            value = element.get(name, "0%")
            assert not value.endswith("%") or 0 <= float(value[:-1]) <= 100
        for name in ("y", "y1", "y2", "cy"):
            assert 0 <= float(element.get(name, "0")) <= float(chart.attrib["height"])


def test_frontier_places_lower_scores_left_and_higher_accuracy_up() -> None:
    positions = {series: (x, y) for series, x, y in marks(frontier(WITH_FRONTIER))}
    assert positions["input"][0] > positions["reference"][0]
    assert positions["input"][1] < positions["reference"][1]
    assert len(marks(frontier(WITH_FRONTIER))) == len(FRONTIER)


def test_frontier_rings_the_chosen_dose_only() -> None:
    (ring,) = frontier(WITH_FRONTIER).iter("circle")
    (chosen,) = [point for point in FRONTIER if (point.method, point.dose) == (REPAIR.method, REPAIR.dose)]
    assert ring.get("cx") == f"{13 + 84 * chosen.harmful_score:.2f}%"
    assert [point for point in FRONTIER if figures.is_chosen(point, WITH_FRONTIER)] == [chosen]
    assert not list(frontier(dataclasses.replace(WITH_FRONTIER, repair=None)).iter("circle"))


def test_frontier_marks_have_their_dose_as_a_tooltip() -> None:
    tooltips = {title.text for title in frontier(WITH_FRONTIER).iter("title")}
    assert {"antidote at dose 0.05: 20.0 %, 86.0 %", "the input model: 100.0 %, 91.0 %"} <= tooltips


def test_frontier_without_a_task_shows_over_refusal_and_without_a_cost_no_chart() -> None:
    assert figures.frontier_cost_name(NO_TASK) == "Over-refusal"
    assert "Over-refusal" in "".join(frontier(NO_TASK).itertext())
    points = [dataclasses.replace(point, over_refusal=None) for point in NO_TASK.frontier]
    without_cost = dataclasses.replace(NO_TASK, frontier=points)
    assert figures.draw_frontier(without_cost, "Harmful score", 0.3) == ""
    assert "Frontier:" in render_page(without_cost)
    assert "Frontier:" not in render_page(BARE)


@given(st.lists(POINTS, min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_any_frontier_stays_within_the_frame(points: list[FrontierPoint]) -> None:
    chart = frontier(dataclasses.replace(WITH_FRONTIER, frontier=points))
    assert_within_frame(chart)
    assert len(marks(chart)) == len(points)


@given(st.lists(SHARES, min_size=1, max_size=4, unique=True))
@settings(max_examples=25, deadline=None)
def test_any_dose_search_stays_within_the_frame(doses: list[float]) -> None:
    attempts = [DoseAttempt(dose, dose, 0.5, None, 0.5, 0, passes=True, lacks=[]) for dose in doses]
    repair = dataclasses.replace(REPAIR, dose=max(doses))
    rows = attempt_rows(dataclasses.replace(REPAIRED, attempts=attempts, repair=repair))
    chart = figures.draw_doses(rows, "Harmful score", 0.3)
    assert bool(chart) == (max(doses) > 0)
    if chart:
        assert_within_frame(fromstring(chart))  # noqa: S314 - built by this package


@pytest.mark.parametrize("report", EVERY_KIND)
def test_intervals_stay_within_the_frame(report: Report) -> None:
    rows = model_rows(report)
    chart = fromstring(figures.draw_intervals(rows, "Harmful score", 0.35))  # noqa: S314 - built by this package
    assert_within_frame(chart)
    assert len(marks(chart)) == len(rows)


def text_chart(report: Report) -> list[str]:
    return render_text_chart(model_rows(report), report.evaluations.before.threshold).split("\n")


def test_text_chart_of_a_repair() -> None:
    assert [line.rstrip() for line in text_chart(REPAIRED)] == [
        "           0 %          25 %           50 %           75 %           100 %",
        "Reference   ├●──┤               ║                                         4.0 %",
        "Before                          ║                           ├───●──┤      88.0 %",
        "After             ├──●────┤     ║                                         17.0 %",
        "                                threshold 35.0 %",
    ]


@pytest.mark.parametrize("report", EVERY_KIND)
def test_text_chart_has_a_line_per_model_and_fits_the_summary(report: Report) -> None:
    lines, models = text_chart(report), model_rows(report)
    assert [line.startswith(row.label) for line, row in zip(lines[1:-1], models, strict=True)] == [True] * len(models)
    assert max(map(len, lines)) <= 105
    assert {character for line in lines for character in line if ord(character) > 127} <= set("├─┤║●")


def test_text_chart_shows_corrected_scores() -> None:
    for line, row in zip(text_chart(CALIBRATED_REPAIR)[1:-1], model_rows(CALIBRATED_REPAIR), strict=True):
        assert row.corrected is not None
        assert line.endswith(f"  {100 * row.corrected:.1f} % corrected")
        assert draw_cells(row, CELLS)[to_cell(row.corrected)] == SCORE


@given(SHARES, SHARES)
def test_the_scale_is_monotonic(first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert 0 <= to_cell(low) <= to_cell(high) <= CELLS
    assert abs(to_cell(low) - CELLS * low) <= 0.5


@given(st.lists(SHARES, min_size=3, max_size=3).map(sorted), SHARES)
def test_text_chart_draws_score_bounds_and_threshold_at_their_cells(shares: list[float], threshold: float) -> None:
    row = dataclasses.replace(model_rows(REPAIRED)[0], score=shares[1], bounds=(shares[0], shares[2]))
    lower, score, upper = map(to_cell, shares)
    line = draw_cells(row, to_cell(threshold))
    assert len(line) == CELLS + 1
    expected = dict.fromkeys(range(CELLS + 1), " ") | {to_cell(threshold): "║"}
    expected |= dict.fromkeys(range(lower, upper + 1), "─") | {lower: "├"} | {upper: "┤"} | {score: SCORE}
    assert line == "".join(expected[cell] for cell in range(CELLS + 1))


@given(st.floats(-1, 2), st.floats(-1, 2), st.floats(-1, 2), st.floats(-1, 2))
def test_text_chart_accepts_figures_out_of_range(score: float, lower: float, upper: float, threshold: float) -> None:
    row = dataclasses.replace(model_rows(REPAIRED)[0], score=score, bounds=(lower, upper))
    scale, line, note = render_text_chart([row], threshold).split("\n")
    assert len(draw_cells(row, to_cell(threshold))) == CELLS + 1
    assert line.startswith(row.label)
    assert re.fullmatch(r" *threshold -?[\d.]+ %", note)
    assert len(note) <= len(scale)


@given(st.sampled_from(EVERY_KIND), NAMES)
def test_text_chart_has_no_untrusted_text(report: Report, names: list[str]) -> None:
    assert text_chart(disguised(report, names)) == text_chart(report)
