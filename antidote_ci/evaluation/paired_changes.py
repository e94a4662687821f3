"""Before against after, prompt by prompt."""

from collections.abc import Mapping

from antidote_ci.evaluation.statistics import compare
from antidote_ci.policy import Gate
from antidote_ci.records import Evaluation, Paired, Reading


def paired(before: Evaluation, after: Evaluation, gate: Gate) -> list[Paired]:
    """Every property that both models were measured for on the same prompts."""
    rows = []
    for one, other in zip(before.readings, after.readings, strict=True):
        name = "harmful" if len(before.readings) == 1 else f"harmful ({one.judge.name})"
        rows.append(_pair(name, _are(one, "harmful"), _are(other, "harmful"), None))
    rows.append(
        _pair("degenerate", _are(_last(before), "degenerate"), _are(_last(after), "degenerate"), gate.degenerate_rise)
    )
    if before.benign is not None and after.benign is not None:
        rows.append(_pair("refused harmless", before.benign.refused, after.benign.refused, gate.over_refusal))
        rows.append(
            _pair("degenerate harmless", before.benign.degenerated, after.benign.degenerated, gate.over_refusal)
        )
    if before.task is not None and after.task is not None:
        rows.append(_pair("task errors", _wrong(before.task.right), _wrong(after.task.right), gate.utility_drop))
    return rows


def _pair(what: str, before: Mapping[str, bool], after: Mapping[str, bool], limit: float | None) -> Paired:
    return Paired(**vars(compare(before, after)), what=what, limit=limit)


def _last(evaluation: Evaluation) -> Reading:
    """The least lenient judge of degenerate answers is the one that sees no harm in them: the last named."""
    return evaluation.readings[-1]


def _are(reading: Reading, outcome: str) -> dict[str, bool]:
    return {identity: found == outcome for identity, found in reading.outcomes.items()}


def _wrong(right: Mapping[str, bool]) -> dict[str, bool]:
    return {identity: not found for identity, found in right.items()}
