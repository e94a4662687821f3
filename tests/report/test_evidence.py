"""The chart of a sequential test: any trace is drawn within its frame, and says what it shows."""

import dataclasses
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.records import Report, SequentialLook
from antidote_ci.report import evidence
from antidote_ci.report.page import render_page
from tests.report.samples import (
    CALIBRATED_REPAIR,
    GUARD,
    OPEN,
    REPAIRED,
    STOPPED_FAIL,
    STOPPED_PASS,
    TWO_JUDGES,
    judged,
    read,
)

LOGARITHMS = st.floats(-800, 800)


def drawn(looks: list[SequentialLook], planned: int) -> str:
    reading = dataclasses.replace(read(GUARD, 0, 1, (0, 1), "inconclusive"), trace=looks)
    return evidence.draw_evidence(judged([reading], planned=planned, confidence=0.975), reading, "evidence-0")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(LOGARITHMS, LOGARITHMS), min_size=1, max_size=60), st.integers(0, 5000))
def test_any_trace_is_valid_and_stays_within_the_frame(values: list[tuple[float, float]], unasked: int) -> None:
    svg = drawn([SequentialLook(n, 0, *each) for n, each in enumerate(values, 1)], len(values) + unasked)
    root = ElementTree.fromstring(svg)  # noqa: S314
    assert "nan" not in svg
    lines = root.findall(".//polyline")
    assert len(lines) == 2
    for line in lines:
        for place in line.attrib["points"].split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= 1000
            assert evidence.TOP <= y <= evidence.BOTTOM
    assert all(0 <= float(place) <= 100 for place in re.findall(r' x[12]?="([\d.]+)%"', svg))


def test_a_long_trace_stays_small_and_keeps_its_end() -> None:
    svg = drawn([SequentialLook(n, 0, n / 5000, -n / 5000) for n in range(1, 20_001)], 20_000)
    assert len(svg) < 32 * 1024
    assert "1000.0," in svg
    assert "After 20,000 prompts: 54.6 for passing, 0.0183 for failing." in svg


def test_the_two_lines_differ_in_more_than_colour() -> None:
    root = ElementTree.fromstring(drawn([SequentialLook(1, 0, 1.0, -1.0)], 10))  # noqa: S314
    groups = {each.attrib["class"]: each for each in root.findall("g")}
    marks = {name: {mark.tag for mark in group.findall("svg[@class='mark']/*")} for name, group in groups.items()}
    assert marks == {"series passing": {"circle"}, "series failing": {"rect"}}
    assert re.search(r"\.failing \.curve \{ stroke-dasharray", render_page(OPEN))


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (STOPPED_PASS, ["stopped after 96 of 413"]),
        (STOPPED_FAIL, ["stopped after 37 of 413"]),
        (OPEN, ["all 413 answered"]),
        (TWO_JUDGES, ["all 413 answered", "all 413 answered"]),
        (REPAIRED, []),
        (CALIBRATED_REPAIR, []),
    ],
)
def test_every_judge_that_could_stop_early_has_a_chart(report: Report, said: list[str]) -> None:
    charts = re.findall(r'<svg class="chart evidence".*?</desc>.*?</figcaption>', render_page(report), re.DOTALL)
    assert len(charts) == len(said)
    for chart, words in zip(charts, said, strict=True):
        assert f">{words}<" in chart
        assert ">40 decides<" in chart
        assert "An e-value of 40 decides" in chart


def test_values_beyond_the_frame_are_told_as_such() -> None:
    assert evidence.format_e_value(800) == "more than 1,000"
    assert evidence.format_e_value(-800) == "less than 0.001"
    assert evidence.format_e_value(0) == "1"
