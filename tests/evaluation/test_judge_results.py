"""Outcomes of answers, looks, early stops, and the worst of two judges."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.evaluation import judge_results, statistics
from antidote_ci.evaluation.judge_results import DecisionRule, classify_answer, summarise_outcomes
from antidote_ci.evaluation.judges import Verdict
from antidote_ci.policy import Gate
from antidote_ci.records import AnswerOutcome, Calibration, JudgeIdentity, Measure, Rate

GUARD = JudgeIdentity("guard", "harmful_score")
RULES = JudgeIdentity("refusal", "non_refusal_rate")
NONE: judge_results.EarlyStops = frozenset()
EITHER: judge_results.EarlyStops = frozenset({"pass", "fail"})
OUTCOMES: list[AnswerOutcome] = ["harmful", "safe", "degenerate", "unparsed"]


def make_outcomes(harmful: int, n: int, other: AnswerOutcome = "safe") -> dict[str, list[AnswerOutcome]]:
    """Return one outcome per prompt, the harmful ones first."""
    return {f"{at:016x}": ["harmful" if at < harmful else other] for at in range(n)}


def calibration(sensitivity: float, specificity: float, n: int = 1000) -> Calibration:
    positives, negatives = (Rate(round(share * n), n, share, (share, share)) for share in (sensitivity, specificity))
    balanced = (sensitivity + specificity) / 2
    return Calibration(
        1, "0", GUARD, "labels", "0" * 64, 2 * n, sensitivity, specificity, balanced, positives, negatives, 0, {}
    )


@given(st.integers(1, 2000), st.floats(0.01, 0.99) | st.just(1.0))
def test_looks_increase_to_n(n: int, threshold: float) -> None:
    assert judge_results.plan_looks(n, threshold, NONE) == [n]
    result = judge_results.plan_looks(n, threshold, EITHER)
    assert result[-1] == n
    assert all(one < other for one, other in pairwise(result))
    assert judge_results.plan_looks(n, threshold, NONE, curtailed=True) == sorted({-(-n // 4), -(-n // 2), n})
    # Before the first look even a model without harmful answers could not pass.
    first = statistics.min_prompts_to_stop(threshold)
    assert result[0] == min(first, n)


def test_first_look_can_be_one_prompt_before_the_last() -> None:
    first = int(statistics.min_prompts_to_stop(0.1))
    assert judge_results.plan_looks(first + 1, 0.1, EITHER) == [first, first + 1]


def test_last_answer_can_decide() -> None:
    first = int(statistics.min_prompts_to_stop(0.1))
    before, after = (
        summarise_outcomes(GUARD, make_outcomes(0, n), DecisionRule(Gate(), EITHER)) for n in (first - 1, first)
    )
    assert not judge_results.should_stop([before], 0.1)
    assert judge_results.should_stop([after], 0.1)


@given(st.integers(0, 400), st.integers(1, 400))
def test_without_stops_bounds_are_exact(harmful: int, n: int) -> None:
    harmful = min(harmful, n)
    result = summarise_outcomes(GUARD, make_outcomes(harmful, n), DecisionRule(Gate(), NONE))
    assert result.bounds == statistics.exact_bounds(harmful, n, 0.95)
    assert result.decided_by == "fixed"


@given(st.integers(0, 400), st.integers(1, 400), st.floats(0.05, 0.9))
def test_sequential_verdict_agrees_with_its_bounds(harmful: int, n: int, threshold: float) -> None:
    harmful = min(harmful, n)
    result = summarise_outcomes(GUARD, make_outcomes(harmful, n), DecisionRule(Gate(harmful_score=threshold), EITHER))
    if result.decided_by == "sequence":
        assert statistics.decide_sequence(*statistics.log_e_values(harmful, n, threshold, threshold)) == result.verdict
        assert result.verdict in ("pass", "fail")
        assert result.verdict == ("pass" if result.bounds[1] <= threshold else "fail")
        assert result.bounds == statistics.sequence_bounds(harmful, n)
    else:
        assert result.bounds == statistics.exact_bounds(harmful, n, 0.975)


def test_disallowed_stop_uses_the_fixed_bound() -> None:
    result = summarise_outcomes(GUARD, make_outcomes(100, 100), DecisionRule(Gate(), frozenset({"pass"})))
    assert result.verdict == "fail"
    assert result.decided_by == "fixed"
    assert not judge_results.should_stop([result], 0.1)


def test_degenerate_answers_do_not_stop_early() -> None:
    broken = summarise_outcomes(RULES, make_outcomes(0, 200, "degenerate"), DecisionRule(Gate(), frozenset({"pass"})))
    assert broken.verdict == "fail"
    assert not judge_results.should_stop([broken], 0.1)
    # Not as a failure either: degenerate answers are no evidence of harm.
    assert not judge_results.should_stop(
        [summarise_outcomes(RULES, make_outcomes(0, 200, "degenerate"), DecisionRule(Gate(), EITHER))], 0.1
    )
    unread = summarise_outcomes(GUARD, make_outcomes(0, 200, "unparsed"), DecisionRule(Gate(), EITHER))
    assert unread.verdict == "inconclusive"
    assert not judge_results.should_stop([unread], 0.1)


@given(st.lists(st.lists(st.sampled_from(OUTCOMES), min_size=3, max_size=3), min_size=1, max_size=50))
def test_prompt_counts_as_the_mean_of_its_answers(answers: list[list[AnswerOutcome]]) -> None:
    result = summarise_outcomes(
        GUARD, {str(at): outcomes for at, outcomes in enumerate(answers)}, DecisionRule(Gate(), NONE)
    )
    flat = [outcome for outcomes in answers for outcome in outcomes]
    assert result.harmful_score == pytest.approx(flat.count("harmful") / len(flat))
    assert result.degenerate == pytest.approx(flat.count("degenerate") / len(flat))
    assert result.unparsed == pytest.approx(flat.count("unparsed") / len(flat))
    assert all(
        ("harmful" in outcomes) == (result.outcomes[str(at)] == "harmful") for at, outcomes in enumerate(answers)
    )


def test_calibration_widens_bounds_and_corrects_the_score() -> None:
    plain = summarise_outcomes(GUARD, make_outcomes(30, 200), DecisionRule(Gate(), NONE))
    known = summarise_outcomes(GUARD, make_outcomes(30, 200), DecisionRule(Gate(), NONE, calibration(0.8, 0.95)))
    assert known.harmful_score == plain.harmful_score
    assert known.corrected_score == pytest.approx((0.15 + 0.95 - 1) / (0.8 + 0.95 - 1))
    assert known.bounds[1] - known.bounds[0] > plain.bounds[1] - plain.bounds[0]
    rule = DecisionRule(Gate(), EITHER, calibration(0.8, 0.99))
    early = summarise_outcomes(GUARD, make_outcomes(0, 300), rule)
    assert early.decided_by == "sequence"
    assert early.bounds == statistics.sequence_bounds(0, 300, rule.errors)


def test_worst_judge_decides() -> None:
    kind = summarise_outcomes(GUARD, make_outcomes(0, 100), DecisionRule(Gate(), EITHER))
    strict = summarise_outcomes(RULES, make_outcomes(40, 100), DecisionRule(Gate(), EITHER))
    open_one = summarise_outcomes(RULES, make_outcomes(9, 100), DecisionRule(Gate(), EITHER))
    assert judge_results.deciding_result([kind, strict]) is strict
    assert judge_results.deciding_result([open_one, kind]) is open_one
    assert judge_results.should_stop([kind, kind], 0.1)
    assert not judge_results.should_stop([kind, open_one], 0.1)
    assert judge_results.should_stop([kind, strict], 0.1)
    assert judge_results.measure_disagreement([kind]) is None
    assert (
        judge_results.measure_disagreement([kind, strict])
        == judge_results.measure_disagreement([strict, kind])
        == pytest.approx(0.4)
    )


def test_early_stop_depends_on_the_last_look() -> None:
    # One answer later the evidence no longer suffices, although the fixed bound passes.
    outcomes = make_outcomes(0, 60) | {"the last": ["harmful"]}
    rule = DecisionRule(Gate(), EITHER)
    before, after = summarise_outcomes(GUARD, make_outcomes(0, 60), rule), summarise_outcomes(GUARD, outcomes, rule)
    assert before.verdict == after.verdict == "pass"
    assert judge_results.should_stop([before], 0.1)
    assert not judge_results.should_stop([after], 0.1)
    assert not judge_results.should_stop(
        [summarise_outcomes(GUARD, make_outcomes(100, 100), DecisionRule(Gate(), NONE))], 0.1
    )


@given(st.integers(1, 400), st.integers(0, 60), st.booleans())
def test_unable_to_pass_holds_for_any_other_answers(asked: int, harmful: int, early: bool) -> None:
    """With a judge whose false alarm rate exceeds the threshold, fewer hits contradict the calibration."""
    planned, harmful = 400, min(harmful, asked)
    rule = DecisionRule(Gate(), EITHER if early else NONE, calibration(0.95, 0.8, 200))
    so_far = summarise_outcomes(GUARD, make_outcomes(harmful, asked), rule)
    ends = range(harmful, harmful + planned - asked + 1)
    if judge_results.is_unable_to_pass(so_far, planned, rule):
        assert all(statistics.fixed_bounds(hits, planned, rule.confidence, rule.errors)[1] > 0.1 for hits in ends)


@pytest.mark.parametrize(("harmful", "n", "shown"), [(30, 400, "pass"), (400, 400, "fail")])
def test_contradiction_of_the_calibration_does_not_stop(harmful: int, n: int, shown: str) -> None:
    threshold = 0.1 if shown == "pass" else 0.99
    rule = DecisionRule(Gate(harmful_score=threshold), EITHER, calibration(0.95, 0.8, 200))
    result = summarise_outcomes(GUARD, make_outcomes(harmful, n), rule)
    evidence = statistics.log_e_values(harmful, n, *statistics.apparent_thresholds(threshold, rule.errors))
    assert statistics.decide_sequence(*evidence) == shown
    assert (result.verdict, result.decided_by) == ("inconclusive", "fixed")
    assert not judge_results.should_stop([result], threshold)


@given(st.integers(1, 60), st.integers(0, 60), st.sampled_from([None, (0.8, 0.95), (0.95, 0.8)]), st.booleans())
def test_unable_to_pass_when_safe_answers_leave_the_score_above_the_threshold(
    asked: int, harmful: int, quality: tuple[float, float] | None, early: bool
) -> None:
    planned, harmful = 60, min(harmful, asked)
    rule = DecisionRule(Gate(harmful_score=0.35), EITHER if early else NONE, quality and calibration(*quality))
    so_far = summarise_outcomes(GUARD, make_outcomes(harmful, asked), rule)
    at_best = summarise_outcomes(GUARD, make_outcomes(harmful, planned), rule)
    score = at_best.harmful_score if quality is None else at_best.corrected_score
    assert score is not None
    assert judge_results.is_unable_to_pass(so_far, planned, rule) == (score > 0.35)


BROKEN = ["", "<|endoftext|>", "opy" * 20, "the same again and " * 12]


@pytest.mark.parametrize("answer", BROKEN)
@given(verdict=st.sampled_from(["harmful", "safe", "unparsed"]))
def test_degenerate_answer_is_never_safe(answer: str, verdict: Verdict) -> None:
    assert classify_answer(answer, verdict, "harmful_score") == ("harmful" if verdict == "harmful" else "degenerate")
    assert classify_answer(answer, verdict, "non_refusal_rate") == "degenerate"


@given(
    verdict=st.sampled_from(["harmful", "safe", "unparsed"]),
    measure=st.sampled_from(["harmful_score", "non_refusal_rate"]),
)
def test_other_answers_count_as_their_verdict(verdict: Verdict, measure: Measure) -> None:
    assert classify_answer("The capital of France is Paris.", verdict, measure) == verdict
