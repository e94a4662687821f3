"""Files of a run that CI services read: test results in the JUnit format, and a badge.

JUnit: the subset that https://github.com/testmoapp/junitxml describes, which GitHub's test reporters, GitLab and
Jenkins read. Badge: https://shields.io/badges/endpoint-badge
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from antidote_ci.formatting import format_interval, format_percent, format_points
from antidote_ci.records import CategoryCount, Evaluation, GateVerdict, Measure, Report, RunVerdict
from antidote_ci.report import origins, statements
from antidote_ci.report.measures import MEASURES, format_identity
from antidote_ci.report.text import flatten, format_number

Outcome = Literal["passed", "failure", "error", "skipped"]
"""`error`: the measurement does not decide. `skipped`: no limit of the gate applies, or the repair was accepted."""

BADGE_COLORS: dict[RunVerdict, str] = {
    "pass": "brightgreen",
    "repaired": "orange",
    "fail": "red",
    "inconclusive": "lightgrey",
}
ANSWERS: dict[Measure, str] = {"harmful_score": "harmful", "non_refusal_rate": "not refused"}
REGRESSIONS: dict[GateVerdict, Outcome] = {"pass": "passed", "fail": "failure", "inconclusive": "error"}


@dataclass(frozen=True)
class CaseResult:
    """One limit of the gate, or one category of harm."""

    group: Literal["gate", "category"]
    name: str
    outcome: Outcome
    message: str


JUNIT_START = '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="antidote-ci"'
"""Of every file of test results."""


def render_junit(report: Report) -> str:
    """Return the test results: a case per limit of the gate and per category, for the tested and the repaired model."""
    before, after = report.evaluations.before, report.evaluations.after
    suites = [("tested", before, list(_list_cases(report, before)))]
    if after is not None:
        suites.append(("repaired", after, list(_list_cases(report, after))))
    everything = [case for _, _, cases in suites for case in cases]
    root = ElementTree.Element("testsuites", {"name": "antidote-ci", **_count_outcomes(everything)})
    seconds = sum(report.seconds.values())
    for role, evaluation, cases in suites:
        attributes = {"name": f"antidote-ci: {role} model", **_count_outcomes(cases)}
        attributes |= {"skipped": _count(cases, "skipped"), "time": f"{seconds if role == 'tested' else 0:.1f}"}
        suite = ElementTree.SubElement(root, "testsuite", attributes)
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in {
            "model": origins.full_name(report.source.id, report.source.revision),
            "judge": format_identity(evaluation.deciding_result.judge),
            "verdict": report.verdict,
            "policy": report.policy_sha256,
            "run": report.run_id,
        }.items():
            ElementTree.SubElement(properties, "property", name=name, value=_xml_text(value))
        for case in cases:
            _add_case(suite, role, case)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def render_badge(report: Report) -> str:
    """Return a badge of the tested model. It contains no text of the model's repository."""
    before = report.evaluations.before
    message = f"{statements.TESTED_VERDICTS[before.verdict]}, "
    if statements.is_decided_by_baseline(report):
        message = "worse than the baseline" if report.verdict == "fail" else "not shown to match the baseline"
    elif report.verdict == "repaired":
        message += "a repair passes"
    elif before.verdict != "pass" and before.bounds[1] <= before.threshold:
        share = before.unusable if before.verdict == "fail" else before.unparsed
        failure = "without an answer" if before.unfinished else "degenerate"
        message += f"{format_percent(share)} {failure if before.verdict == 'fail' else 'not judged'}"
    else:
        message += f"{MEASURES[before.measure].lower()} {format_percent(before.harmful_score)}"
    badge = {"schemaVersion": 1, "label": "antidote-ci", "message": message, "color": BADGE_COLORS[report.verdict]}
    return json.dumps(badge, indent=2) + "\n"


def _list_cases(report: Report, evaluation: Evaluation) -> Iterator[CaseResult]:
    is_repaired = evaluation is report.evaluations.after
    is_accepted = not is_repaired and report.verdict == "repaired" and report.exit_code == 0
    limits = list(_list_limits(report, evaluation, is_repaired=is_repaired))
    limits += _list_regressions(report, evaluation)
    passes = report.verdict in ("pass", "repaired") if is_repaired else evaluation.verdict == "pass"
    if not passes and all(limit.outcome == "passed" for limit in limits):
        outcome: Outcome = "failure" if is_repaired or evaluation.verdict == "fail" else "error"
        limits.append(CaseResult("gate", "other limits", outcome, report.reason))
    for limit in limits:
        accepted = is_accepted and limit.outcome != "passed"
        yield CaseResult("gate", limit.name, "skipped" if accepted else limit.outcome, limit.message)
    # The gate has no limit per category, so a category alone fails nothing.
    above: Outcome = "skipped" if passes or is_accepted or evaluation.verdict == "inconclusive" else "failure"
    for name, count in evaluation.categories.items():
        yield _to_category_case(name or "no category", count, evaluation, above)


def _list_limits(report: Report, evaluation: Evaluation, *, is_repaired: bool) -> Iterator[CaseResult]:
    lower, upper = evaluation.bounds
    threshold = evaluation.threshold
    measure = MEASURES[evaluation.measure]
    outcome: Outcome = "failure" if lower > threshold else "error" if upper > threshold else "passed"
    message = f"{format_percent(evaluation.harmful_score)}, bounds {format_interval(evaluation.bounds)}"
    yield CaseResult("gate", f"{measure} at most {format_percent(threshold)}", outcome, message)
    if isinstance(limit := report.policy.get("gate.degenerate"), float):
        outcome = "failure" if evaluation.unusable > limit else "passed"
        name = f"Degenerate answers at most {format_percent(limit)}"
        thoughts = f", unfinished thoughts {format_percent(evaluation.unfinished)}" if evaluation.unfinished else ""
        yield CaseResult("gate", name, outcome, format_percent(evaluation.degenerate) + thoughts)
    is_unparsed = evaluation.verdict == "inconclusive" and upper <= threshold
    message = f"{format_percent(evaluation.unparsed)} of the answers could not be judged"
    yield CaseResult("gate", "Enough answers judged", "error" if is_unparsed else "passed", message)
    for change in report.paired if is_repaired else ():
        if change.limit is not None:
            outcome = "passed" if change.allows(change.rise_bound) else "failure"
            name = f"Rise of {change.what} at most {format_points(change.limit)}"
            message = f"{format_points(change.rise)}, upper bound {format_points(change.rise_bound)}"
            yield CaseResult("gate", name, outcome, message)


def _list_regressions(report: Report, evaluation: Evaluation) -> Iterator[CaseResult]:
    """The limit of the rise from the baseline, for the model that was compared with it."""
    baseline, after = report.baseline, report.evaluations.after
    if baseline is None or baseline.verdict is None:
        return
    if evaluation is (after if baseline.second.repaired else report.evaluations.before):
        name = f"Rise of the {MEASURES[evaluation.measure].lower()} from the baseline"
        yield CaseResult("gate", name, REGRESSIONS[baseline.verdict], baseline.reason)


def _to_category_case(name: str, count: CategoryCount, evaluation: Evaluation, above: Outcome) -> CaseResult:
    share, threshold = count.harmful / max(count.n, 1), evaluation.threshold
    answers = f"{format_number(count.harmful)} of {format_number(count.n)} answers"
    message = f"{answers} are {ANSWERS[evaluation.measure]} ({format_percent(share)})"
    if share <= threshold:
        return CaseResult("category", name, "passed", message)
    return CaseResult("category", name, above, f"{message}, above {format_percent(threshold)}")


def _add_case(suite: ElementTree.Element, role: str, case: CaseResult) -> None:
    element = ElementTree.SubElement(
        suite, "testcase", name=_xml_text(case.name), classname=f"{role}.{case.group}", time="0"
    )
    if case.outcome == "passed":
        ElementTree.SubElement(element, "system-out").text = _xml_text(case.message)
    else:
        result = ElementTree.SubElement(element, case.outcome, message=_xml_text(case.message))
        if case.outcome != "skipped":
            result.set("type", case.group)
            result.text = _xml_text(f"{case.name}: {case.message}")


def _count_outcomes(cases: list[CaseResult]) -> dict[str, str]:
    failures, errors = _count(cases, "failure"), _count(cases, "error")
    return {"tests": str(len(cases)), "failures": failures, "errors": errors}


def _count(cases: list[CaseResult], outcome: Outcome) -> str:
    return str(sum(case.outcome == outcome for case in cases))


def _xml_text(value: object) -> str:
    """Return `flatten` of a value, without the characters that XML 1.0 cannot hold: https://www.w3.org/TR/xml/#charsets"""
    return "".join("\ufffd" if character in "\ufffe\uffff" else character for character in flatten(value))
