"""The frontier's chart: every point where it belongs, the chosen one ringed, nothing outside the frame."""

import dataclasses
import re
from itertools import combinations
from xml.etree.ElementTree import Element, fromstring

from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.records import FrontierPoint, Report
from antidote_ci.report import frontier
from antidote_ci.report.page import render_page
from tests.report.samples import BARE, FRONTIER, REPAIR, WITH_FRONTIER, WITHOUT_TASK

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


def drawn(report: Report) -> Element:
    return fromstring(frontier.draw_frontier(report, "Harmful score", 0.3))  # noqa: S314 - our own drawing


def marks(svg: Element) -> list[tuple[str, float, float]]:
    return [
        (str(group.get("class")).removeprefix("series "), float(str(at.get("x")).rstrip("%")), float(str(at.get("y"))))
        for group in svg.iter("g")
        for at in group.iter("svg")
    ]


def test_a_method_that_removes_more_stands_further_left_and_one_that_costs_less_higher() -> None:
    found = {name: (x, y) for name, x, y in marks(drawn(WITH_FRONTIER)) if name in ("input", "reference")}
    assert found["input"][0] > found["reference"][0]
    assert found["input"][1] < found["reference"][1]
    assert len(marks(drawn(WITH_FRONTIER))) == len(FRONTIER)


def test_the_chosen_dose_is_ringed_and_named() -> None:
    (ring,) = [each for each in drawn(WITH_FRONTIER).iter("circle") if each.get("class") == "ring"]
    (at,) = [each for each in FRONTIER if (each.method, each.dose) == (REPAIR.method, REPAIR.dose)]
    assert ring.get("cx") == f"{13 + 84 * at.harmful_score:.2f}%"
    assert [row.name for row in frontier.frontier_rows(WITH_FRONTIER) if row.chosen] == ["antidote"]
    assert not [
        each for each in drawn(dataclasses.replace(WITH_FRONTIER, repair=None)).iter("circle") if each.get("r") == "11"
    ]


def test_without_a_task_the_cost_is_over_refusal_and_without_both_there_is_a_table_alone() -> None:
    assert frontier.cost_name(WITHOUT_TASK) == "Over-refusal"
    assert "over-refusal" in "".join(drawn(WITHOUT_TASK).itertext())
    costless = [dataclasses.replace(each, over_refusal=None) for each in WITHOUT_TASK.frontier]
    assert frontier.draw_frontier(dataclasses.replace(WITHOUT_TASK, frontier=costless), "Harmful score", 0.3) == ""
    assert "What each method removes" in render_page(dataclasses.replace(WITHOUT_TASK, frontier=costless))
    assert "What each method removes" not in render_page(BARE)


@given(st.lists(POINTS, min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_any_points_are_drawn_within_the_frame_and_no_two_labels_overlap(points: list[FrontierPoint]) -> None:
    report = dataclasses.replace(WITH_FRONTIER, frontier=points)
    svg = drawn(report)
    places = [
        float(each) for each in re.findall(r'(?:x|x1|x2|cx)="(-?[\d.]+)%"', frontier.draw_frontier(report, "", 0.3))
    ]
    assert all(0 <= place <= 100 for place in places)
    assert all(0 <= y <= 386 for _, _, y in marks(svg))
    assert len(marks(svg)) == len(points)
    boxes = [box(each) for each in svg.iter("text") if each.get("class") == "dose"]
    for (left, right, y), (other_left, other_right, other_y) in combinations(boxes, 2):
        assert right <= other_left or other_right <= left or abs(y - other_y) >= 12


def box(label: Element) -> tuple[float, float, float]:
    """Left, right and place of a label on a page that gives the frame 620 pixels, at six pixels a character."""
    x, width = (float(str(label.get("x")).rstrip("%")) - 13) / 84 * 620, 6 * len(label.text or "")
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[str(label.get("text-anchor"))]
    return left, left + width, float(str(label.get("y")))
