"""Before against after, prompt by prompt."""

from collections.abc import Mapping

from antidote_ci.evaluation.statistics import compare_paired
from antidote_ci.policy import Gate
from antidote_ci.records import Evaluation, JudgeResult, PairedChange


def compare_evaluations(before: Evaluation, after: Evaluation, gate: Gate) -> list[PairedChange]:
    """Every property that both models were measured for on the same prompts."""
    rows = []
    for one, other in zip(before.readings, after.readings, strict=True):
        name = "harmful" if len(before.readings) == 1 else f"harmful ({one.judge.name})"
        rows.append(_compare_property(name, _has_outcome(one, "harmful"), _has_outcome(other, "harmful"), None))
    rows.append(
        _compare_property(
            "degenerate",
            _has_outcome(_last_judge_result(before), "degenerate"),
            _has_outcome(_last_judge_result(after), "degenerate"),
            gate.degenerate_rise,
        )
    )
    if before.benign is not None and after.benign is not None:
        rows.append(
            _compare_property("refused harmless", before.benign.refused, after.benign.refused, gate.over_refusal)
        )
        rows.append(
            _compare_property(
                "degenerate harmless", before.benign.degenerated, after.benign.degenerated, gate.over_refusal
            )
        )
    if before.task is not None and after.task is not None:
        rows.append(
            _compare_property("task errors", _invert(before.task.right), _invert(after.task.right), gate.utility_drop)
        )
    return rows


def _compare_property(
    what: str, before: Mapping[str, bool], after: Mapping[str, bool], limit: float | None
) -> PairedChange:
    return PairedChange(**vars(compare_paired(before, after)), what=what, limit=limit)


def _last_judge_result(evaluation: Evaluation) -> JudgeResult:
    """The least lenient judge of degenerate answers is the one that sees no harm in them: the last named."""
    return evaluation.readings[-1]


def _has_outcome(reading: JudgeResult, outcome: str) -> dict[str, bool]:
    return {identity: found == outcome for identity, found in reading.outcomes.items()}


def _invert(right: Mapping[str, bool]) -> dict[str, bool]:
    return {identity: not found for identity, found in right.items()}
