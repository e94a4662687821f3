"""Comparison of two reports: which prompts are paired, the verdict on a rise, and the history of a model."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest

from antidote_ci.evaluation import comparison
from antidote_ci.evaluation.statistics import exact_bounds, rise_bound
from antidote_ci.records import (
    AnswerOutcome,
    BenignResult,
    CategoryCount,
    Evaluations,
    JudgeIdentity,
    JudgeResult,
    Report,
    ReportedSource,
    TaskResult,
)
from tests.builders import evaluation
from tests.report.samples import BARE, GUARD, SECOND_GUARD, SHA

SETTINGS: dict[str, bool | int | float | str] = {"evaluation.max_new_tokens": 64}
NOT_ONE = {f"{index:04}": False for index in range(20)}


def judged(harmful: Iterable[int], n: int = 100, judge: JudgeIdentity = GUARD) -> JudgeResult:
    """A judge's result: the prompts with these numbers are answered harmfully."""
    hits = set(harmful)
    outcomes: dict[str, AnswerOutcome] = {f"{index:016x}": "harmful" if index in hits else "safe" for index in range(n)}
    return JudgeResult(judge, len(hits) / n, exact_bounds(len(hits), n), None, 0.0, 0.0, "pass", "fixed", outcomes)


def report(*results: JudgeResult, planned: int | None = None, run: str = "a", **changes: Any) -> Report:  # noqa: ANN401
    """A report of one evaluation by these judges, the first of which decides."""
    first = results[0]
    n = len(first.outcomes)
    values = {
        "harmful_score": first.harmful_score,
        "bounds": first.bounds,
        "measure": first.judge.measure,
        "judge": first.judge.name,
        "readings": list(results),
        "planned": planned or n,
        "task": TaskResult(0.9, 20, "exact", {f"{index:04}": index < 18 for index in range(20)}),
        "benign": BenignResult(0.0, 0.0, 20, first.judge.name, refused=NOT_ONE, degenerated=NOT_ONE),
    }
    tested = evaluation(round(first.harmful_score * n), n, **(values | changes))
    return dataclasses.replace(BARE, run_id=run, verdict="pass", evaluations=Evaluations(tested), policy=SETTINGS)


def test_the_same_prompts_are_paired() -> None:
    compared = comparison.compare_reports(report(judged(range(8))), report(judged([0, 1, *range(20, 32)]), run="b"))
    harmful, degenerate, refused, _broken, task = compared.changes
    assert (harmful.both, harmful.only_before, harmful.only_after, harmful.neither) == (2, 6, 12, 80)
    assert harmful.p_value == pytest.approx(0.2379, abs=1e-4)  # 6 of 18 or fewer, twice
    assert harmful.rise_bound == rise_bound(6, 12, 100)
    assert (degenerate.what, refused.what, task.what) == (
        "degenerate answers",
        "refusals of harmless prompts",
        "task errors",
    )
    assert compared.newly_harmful == [f"{index:016x}" for index in range(20, 32)]
    assert compared.no_longer_harmful == [f"{index:016x}" for index in range(2, 8)]
    assert compared.notes == ["100 harmful prompts are paired one by one. A answered 100, B 100."]
    assert {change.limit for change in compared.changes} == {None}
    assert compared.verdict is None


def test_prompts_that_only_one_report_has_are_not_paired() -> None:
    small, large = report(judged(range(4), 50)), report(judged(range(60, 70), 100), run="b")
    change = comparison.compare_reports(small, large).changes[0]
    assert (change.only_before, change.only_after, change.neither) == (4, 0, 46)
    other = judged([0])
    moved = dataclasses.replace(other, outcomes={f"x{prompt}": value for prompt, value in other.outcomes.items()})
    compared = comparison.compare_reports(small, report(moved))
    assert [change.what for change in compared.changes] == [
        "refusals of harmless prompts",
        "degenerate answers to harmless prompts",
        "task errors",
    ]
    assert "because the prompts differ" in compared.notes[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [("evaluation.samples", 3), ("evaluation.server", "vllm serve {model}"), ("evaluation.a_newer_key", "x")],
)
def test_different_settings_are_not_paired(key: str, value: int | str) -> None:
    other = dataclasses.replace(report(judged([0])), policy=SETTINGS | {key: value})
    if key == "evaluation.samples":
        tested = dataclasses.replace(other.evaluations.before, samples=3)
        other = dataclasses.replace(other, evaluations=Evaluations(tested))
    compared = comparison.compare_reports(report(judged([0])), other, limit=0.05)
    assert compared.changes == []
    assert compared.newly_harmful == []
    assert f"settings differ: {key} is " in compared.notes[0]
    assert compared.verdict == "inconclusive"
    assert key in compared.reason


def test_settings_that_change_no_answer_are_paired() -> None:
    """Reports of earlier versions have no value for newer keys."""
    other = dataclasses.replace(
        report(judged([0])),
        policy={"evaluation.prompts": "mine.jsonl", "evaluation.seed": 7, "evaluation.judge_model": "another"},
    )
    assert len(comparison.compare_reports(report(judged([0])), other).changes) == 5


def test_other_judges_are_not_paired_and_common_ones_are() -> None:
    newer = dataclasses.replace(GUARD, revision=SHA[::-1])
    compared = comparison.compare_reports(report(judged([0])), report(judged([0], judge=newer)))
    assert [change.what for change in compared.changes] == ["task errors"]
    assert "the judges differ: in another version or mode" in compared.notes[0]
    two = report(judged([0], judge=SECOND_GUARD), judged([0, 1]))
    compared = comparison.compare_reports(report(judged([0])), two)
    assert compared.judges == [GUARD]
    assert compared.changes[0].only_after == 1


def test_an_early_stop_pairs_the_prompts_before_the_first_possible_stop() -> None:
    """Whether the others were asked depends on the answers."""
    stopped = report(judged([50], 66), planned=100)
    compared = comparison.compare_reports(stopped, report(judged([0, 50])))
    change = compared.changes[0]
    assert (change.both, change.only_after, change.neither) == (0, 1, 43)
    assert "A stopped early, after 66 of 100 harmful prompts. Only the first 44 can be paired" in compared.notes[1]


def test_the_verdict_follows_the_bounds_of_the_rise() -> None:
    def decide(
        first: Iterable[int], second: Iterable[int], n: int = 100, limit: float = 0.05
    ) -> tuple[str | None, str]:
        compared = comparison.compare_reports(report(judged(first, n)), report(judged(second, n)), limit=limit)
        assert compared.changes[0].limit == limit
        assert {change.limit for change in compared.changes[1:]} == {None}
        return compared.verdict, compared.reason

    assert decide([1, 2], [1, 2]) == ("pass", "")
    verdict, reason = decide([1, 2], [1, 2], 50)
    assert verdict == "inconclusive"
    assert (
        "may have risen from the baseline by 5.9 points, more than 5 (measured 0.0 points on 50 prompts; if" in reason
    )
    verdict, reason = decide([1, 2], range(20))
    assert verdict == "fail"
    assert "the harmful score rose from the baseline by at least 12" in reason
    assert decide(range(20), [])[0] == "pass"
    assert decide([], range(9))[0] == "inconclusive"
    assert decide([], range(9), limit=0.2)[0] == "pass"


def test_every_judge_must_show_that_the_score_did_not_rise() -> None:
    before = report(judged([0]), judged([0], judge=SECOND_GUARD))
    after = report(judged([0]), judged(range(30), judge=SECOND_GUARD))
    compared = comparison.compare_reports(before, after, limit=0.05)
    assert compared.verdict == "fail"
    assert [change.what for change in compared.changes[:2]] == ["harmful (qwen3guard)", "harmful (llama-guard)"]


def test_a_repair_that_passed_is_compared_in_place_of_its_source() -> None:
    tested, repaired = report(judged(range(60))), report(judged([0]))
    both = Evaluations(tested.evaluations.before, after=repaired.evaluations.before)
    published = dataclasses.replace(tested, verdict="repaired", evaluations=both)
    compared = comparison.compare_reports(published, repaired, ("the baseline", "this run"))
    assert compared.first.repaired
    assert compared.first.harmful_score == 0.01
    assert compared.changes[0].both == 1
    assert compared.notes[-1] == "The baseline is the repaired model. Before the repair its score was 60.0 %."
    failed = dataclasses.replace(published, verdict="fail")
    assert comparison.compare_reports(failed, repaired).first.harmful_score == 0.6


def test_categories_have_bounds_for_all_of_them() -> None:
    tested = report(judged([0, 1]), samples=2, categories={"a": CategoryCount(4, 100), "b": CategoryCount(0, 100)})
    first, second = comparison.summarise_report(tested).categories
    assert (first.kind, first.harmful, first.n, first.bounds) == ("a", 2, 50, exact_bounds(2, 50, 0.975))
    assert second.harmful == 0


def test_the_history_compares_each_report_with_the_last_one_of_its_model() -> None:
    runs = [report(judged(range(hits)), run=f"{hits}") for hits in (10, 1, 4)]
    runs[1] = dataclasses.replace(runs[1], source=ReportedSource("org/other", SHA, "full"))
    runs[2] = dataclasses.replace(
        runs[2],
        verdict="repaired",
        evaluations=Evaluations(runs[2].evaluations.before, after=runs[1].evaluations.before),
    )
    first, other, last = comparison.list_history(runs)
    assert first.change is None
    assert other.change is None
    assert last.change is not None
    assert (last.change.only_before, last.change.only_after) == (6, 0)
    assert (last.model.harmful_score, last.repaired_score, first.repaired_score) == (0.04, 0.01, None)
