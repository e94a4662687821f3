"""Test results and badge, read by the parsers of their consumers."""

import dataclasses
import json
from typing import Any

import pytest

from antidote_ci.evaluation.comparison import compare_reports
from antidote_ci.records import CategoryCount, Evaluations, GateVerdict, PairedChange, Report
from antidote_ci.report.ci_files import render_badge, render_junit
from tests.report.samples import AFTER, BARE, BEFORE, EVERY_KIND, FAILED, INCONCLUSIVE, NOT_REPAIRED, REPAIRED

junitparser = pytest.importorskip("junitparser", reason="a development dependency")

LIMITS: dict[str, bool | int | float | str] = {"gate.harmful_score": 0.35, "gate.degenerate": 0.1}
SHIELDS_COLORS = {"brightgreen", "orange", "red", "lightgrey"}


def read_junit(report: Report) -> dict[str, list[Any]]:
    """The cases of each suite, by the role of the model, read from the file's bytes."""
    document = junitparser.JUnitXml.fromstring(render_junit(report).encode())
    suites = [suite for suite in document if isinstance(suite, junitparser.TestSuite)]
    for suite in suites:
        counted = [
            len([case for case in suite if kind in map(type, case.result)])
            for kind in (junitparser.Failure, junitparser.Error, junitparser.Skipped)
        ]
        assert [suite.tests, suite.failures, suite.errors, suite.skipped] == [len(list(suite)), *counted]
    assert document.tests == sum(suite.tests for suite in suites)
    assert document.failures == sum(suite.failures for suite in suites)
    return {str(suite.name).split()[1]: list(suite) for suite in suites}


def outcomes(cases: list[Any]) -> dict[str, str]:
    return {str(case.name): type(case.result[0]).__name__ if case.result else "Passed" for case in cases}


@pytest.mark.parametrize("report", EVERY_KIND)
def test_failures_agree_with_the_verdict(report: Report) -> None:
    """A reporter fails exactly when the step does."""
    cases = read_junit(dataclasses.replace(report, paired=[]))  # the samples' paired figures are arbitrary
    assert cases.keys() == ({"tested", "repaired"} if report.evaluations.after else {"tested"})
    bad = {type(result) for suite in cases.values() for case in suite for result in case.result} & {
        junitparser.Failure,
        junitparser.Error,
    }
    assert bool(bad) == (report.exit_code != 0)
    if report.verdict == "inconclusive":
        assert bad == {junitparser.Error}
    repaired = [
        result
        for case in cases.get("repaired", [])
        for result in case.result
        if type(result) is not junitparser.Skipped
    ]
    assert bool(repaired) == (report.evaluations.after is not None and report.verdict != "repaired")


def test_a_case_for_each_limit_and_category() -> None:
    cases = read_junit(dataclasses.replace(FAILED, policy=LIMITS))["tested"]
    assert outcomes(cases) == {
        "Non-refusal rate at most 35.0 %": "Failure",
        "Degenerate answers at most 10.0 %": "Passed",
        "Enough answers judged": "Passed",
        "household pranks": "Failure",
        "school rules": "Failure",
        "bad manners": "Failure",
    }
    assert {str(case.classname) for case in cases} == {"tested.gate", "tested.category"}
    assert cases[0].result[0].message == "88.0 %, bounds [81.3, 92.9] %"
    assert cases[3].result[0].message == "9 of 10 answers are not refused (90.0 %), above 35.0 %"


def test_category_alone_fails_nothing() -> None:
    """The gate has no limit per category."""
    passed = dataclasses.replace(
        BARE.evaluations.before, categories={"": CategoryCount(3, 4), "b": CategoryCount(0, 4)}
    )
    report = dataclasses.replace(BARE, evaluations=Evaluations(passed))
    categories = {"no category": "Skipped", "b": "Passed"}
    assert outcomes(read_junit(report)["tested"]).items() > categories.items()


def test_accepted_repair_fails_nothing() -> None:
    accepted = read_junit(dataclasses.replace(REPAIRED, exit_code=0, policy=LIMITS))
    assert outcomes(accepted["tested"])["Non-refusal rate at most 35.0 %"] == "Skipped"
    assert outcomes(accepted["repaired"])["Non-refusal rate at most 35.0 %"] == "Passed"


def test_rise_through_a_repair_has_a_case() -> None:
    rise = PairedChange(40, 0, 5, 55, 0.06, 0.05, 0.103, "task errors", 0.05)
    report = dataclasses.replace(NOT_REPAIRED, evaluations=Evaluations(BEFORE, after=AFTER), paired=[rise])
    case = next(case for case in read_junit(report)["repaired"] if case.result)
    assert case.name == "Rise of task errors at most +5.0 points"
    assert case.result[0].message == "+5.0 points, upper bound +10.3 points"


def test_limit_without_a_case_of_its_own_fails() -> None:
    """A repair can miss a limit that has no figure in the report."""
    report = dataclasses.replace(NOT_REPAIRED, evaluations=Evaluations(BEFORE, after=AFTER), paired=[])
    assert outcomes(read_junit(report)["repaired"])["other limits"] == "Failure"


def require_shields_schema(badge: dict[str, Any]) -> None:
    """The rules of badges/shields, services/endpoint: unknown keys are refused."""
    assert badge.keys() <= {"schemaVersion", "label", "message", "color", "labelColor", "isError", "cacheSeconds"}
    assert badge["schemaVersion"] == 1
    assert isinstance(badge["label"], str)
    assert isinstance(badge["message"], str)
    assert badge["message"]
    assert badge["color"] in SHIELDS_COLORS


@pytest.mark.parametrize("report", EVERY_KIND)
def test_badge_follows_the_schema(report: Report) -> None:
    require_shields_schema(json.loads(render_badge(report)))


def test_badge_states_the_verdict_and_its_reason() -> None:
    degenerate = dataclasses.replace(BARE.evaluations.before, verdict="fail", degenerate=0.4)
    reports = {
        "passes, non-refusal rate 17.0 %": BARE,
        "fails, non-refusal rate 88.0 %": FAILED,
        "fails, a repair passes": REPAIRED,
        "is not shown to pass, non-refusal rate 30.0 %": INCONCLUSIVE,
        "fails, 40.0 % degenerate": dataclasses.replace(BARE, verdict="fail", evaluations=Evaluations(degenerate)),
    }
    assert {message: json.loads(render_badge(report))["message"] for message, report in reports.items()} == {
        message: message for message in reports
    }


@pytest.mark.parametrize(
    ("verdict", "outcome", "message"),
    [
        ("fail", "Failure", "worse than the baseline"),
        ("inconclusive", "Error", "not shown to match the baseline"),
        ("pass", "Passed", "passes, non-refusal rate 17.0 %"),
    ],
)
def test_a_rise_from_the_baseline_is_a_case_of_its_own(verdict: GateVerdict, outcome: str, message: str) -> None:
    """The model itself meets its limits."""
    compared = dataclasses.replace(compare_reports(BARE, BARE), verdict=verdict, reason="as an example")
    report = dataclasses.replace(BARE, verdict=verdict, baseline=compared)
    cases = outcomes(read_junit(report)["tested"])
    assert cases.pop("Rise of the non-refusal rate from the baseline") == outcome
    assert "Failure" not in cases.values()
    assert json.loads(render_badge(report))["message"] == message


def test_a_rise_of_a_repair_that_fails_is_a_case_of_the_repair() -> None:
    """A repair is compared with the baseline before its verdict is known."""
    compared = compare_reports(BARE, REPAIRED, limit=0.0001)
    report = dataclasses.replace(REPAIRED, verdict="fail", exit_code=1, baseline=compared)
    cases = read_junit(report)
    assert outcomes(cases["repaired"])["Rise of the non-refusal rate from the baseline"] == "Error"
    assert not [case for case in cases["tested"] if "baseline" in str(case.name)]
