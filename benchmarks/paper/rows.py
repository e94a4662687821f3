"""How a model, an attack and a repair are written in RESULTS.md. Pure."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from benchmarks.paper.evidence import (
    Evidence,
    Failed,
    Missing,
    Unplanned,
    harmful,
    has_headroom,
    of_another_reference,
    single_seed,
)
from benchmarks.paper.records import Attack, Measured, Repair

NOT_RUN = "not run yet"
FAILED = "failed"
Seen = TypeVar("Seen")

COLUMNS = (
    "model",
    "harm",
    "accuracy",
    "over-refusal",
    "degenerate",
    "degenerate (harmful)",
    "drift",
    "seconds",
    "peak GB",
)


def figures(model: Measured) -> tuple[str, ...]:
    return (
        score(model),
        per_cent(model.accuracy),
        per_cent(model.over_refusal),
        per_cent(model.degenerate),
        per_cent(model.degenerate_harmful),
        f"{model.drift:.3g}",
        f"{model.seconds:.0f}",
        f"{model.peak_bytes / 1e9:.1f}",
    )


def mark(evidence: Evidence, attack: Attack) -> str:
    result = evidence.results.get(attack)
    seen = [each for each, other in evidence.results.items() if not other.failure]
    marks = {
        "¹": single_seed(attack, seen),
        "²": result is not None and not has_headroom(result),
        "³": of_another_reference(evidence, attack),
    }
    return "".join(each for each, holds in marks.items() if holds)


def describe_adapter(attack: Attack) -> str:
    training = attack.training
    return f"{attack.task}, rank {training.rank} on {training.targets}, seed {attack.seed}"


def describe_repair(repair: Repair) -> str:
    return f"`{repair.method}` {repair.dose:g}" + (f", {repair.realignment} pairs" if repair.realignment != 256 else "")


def score(model: Measured) -> str:
    share = harmful([model])
    return f"{100 * share.value:.1f} ({100 * share.low:.0f} to {100 * share.high:.0f})"


def per_cent(share: float) -> str:
    return f"{100 * share:.1f}"


def one_of(values: Iterable[str]) -> str:
    return " or ".join(sorted(set(values))) or NOT_RUN


def or_word(look: Callable[[], Seen]) -> Seen | str:
    """What was measured, or why nothing was."""
    try:
        return look()
    except Missing:
        return NOT_RUN
    except Unplanned:
        return "–"
    except Failed:
        return FAILED


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown. A bar within a cell would end it."""
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
