"""A repair in the making: candidates of any method and dose, the smallest that passes, and its controls."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from antidote_ci import search
from antidote_ci.acquire import Pulled, runnable
from antidote_ci.checkpoint.layout import weight_bytes
from antidote_ci.evaluation import gate
from antidote_ci.evaluation.measure import PromptSets, Ruler, measure
from antidote_ci.evaluation.pairs import paired
from antidote_ci.evaluation.splits import Splits
from antidote_ci.model.child import Child
from antidote_ci.records import Attempt, Control, Evaluation, Method, Model, Progress, Repair, Target
from antidote_ci.repair.apply import Applied, ApplyRequest, Provenance, apply
from antidote_ci.repair.masking import MaskRequest, write_masks
from antidote_ci.repair.targets import target_of

Score = Literal["antidote", "taylor"]


@dataclass(frozen=True)
class Ladder:
    """The doses a method is searched over, ascending, and where the search starts."""

    doses: tuple[float, ...]
    first: float


LADDERS: dict[tuple[Score, Target], Ladder] = {
    ("antidote", "adapter"): Ladder((0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3), 0.05),
    ("antidote", "delta"): Ladder((0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3), 0.05),
    ("taylor", "adapter"): Ladder((0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1), 0.05),
    ("taylor", "delta"): Ladder((0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03), 0.01),
}
"""Of each row (antidote) or of each tensor (taylor); beyond them the task goes first (docs/repair.md)."""
SHRINKS = tuple(step / 10 for step in range(1, 10))
FIRST_SHRINK = 0.5
CANDIDATES_AT_ONCE = 4
"""One dose being tried beside those that passed so far: a bisection of seven doses passes three at most."""


@dataclass(frozen=True)
class Bench:
    """What every candidate is made and measured with."""

    child: Child
    ruler: Ruler
    source: Pulled
    reference: Pulled
    score: Score
    statistics: Path
    provenance: Provenance
    scores: Path
    """Where masks lie beside the statistics."""
    folder: Path
    """Where candidates lie while they are needed."""
    report: Callable[[Progress], None]


@dataclass(frozen=True)
class Candidate:
    """Repaired weights on disk."""

    method: Method
    dose: float
    effective_dose: float
    model: Model
    folder: Path
    masks: Path | None
    applied: Applied


def prepare(bench: Bench, method: Method, dose: float) -> Candidate:
    """Make the candidate's masks, then its weights."""
    adapter = bench.source.source.kind == "adapter"
    reference = None if adapter else bench.reference.source.folder
    masks, effective_dose = None, dose
    if method != "scale":
        masks = bench.scores / f"{method}-{dose:g}-masks.safetensors"
        request = MaskRequest(
            source=bench.source.source.folder,
            reference=reference,
            statistics=bench.statistics,
            method=bench.score,
            dose=dose,
            by_chance=method == "random",
            output=masks,
        )
        effective_dose = bench.child.call(write_masks, request, bench.report)
    destination = bench.folder / f"{method}-{dose:g}"
    applied = bench.child.call(
        apply,
        ApplyRequest(
            bench.source.source.folder,
            reference,
            masks,
            method,
            dose,
            effective_dose,
            destination,
            bench.provenance,
        ),
        bench.report,
    )
    model = Model(bench.reference.source.folder, destination) if adapter else Model(destination)
    return Candidate(method, dose, effective_dose, model, destination, masks, applied)


def choose(bench: Bench, selection: PromptSets, say: Callable[[str], None]) -> tuple[Candidate | None, list[Attempt]]:
    """The smallest dose of the chosen score that passes the policy on the selection split, and every attempt."""
    policy = bench.ruler.gate
    base = bench.reference if bench.source.source.kind == "adapter" else None
    before = measure(bench.ruler, runnable(bench.source, base), selection, bench.report)
    passing: dict[float, Candidate] = {}

    def attempt(dose: float) -> search.Outcome[Attempt]:
        candidate = prepare(bench, bench.score, dose)
        found = measure(bench.ruler, candidate.model, selection, bench.report)
        tried = _attempt(candidate, found, gate.shortfalls(found, paired(before, found, policy), policy, proven=False))
        say(f"  {_spoken(tried)}")
        if tried.passes:
            passing[dose] = candidate
        else:
            discard(candidate)
        enough = found.bounds[1] <= policy.harmful_score
        return search.Outcome(tried, tried.passes, enough and not tried.passes)

    ladder = LADDERS[bench.score, target_of(bench.source.layout)]
    dose, attempts = search.smallest_passing(ladder.doses, ladder.first, attempt)
    for other, candidate in passing.items():
        if other != dose:
            discard(candidate)
    return (None if dose is None else passing[dose]), attempts


def controls(bench: Bench, chosen: Candidate, attempts: list[Attempt], prompts: Splits) -> list[Control]:
    """What two simple tricks do with the same prompts.

    `scale` at the smallest shrink that leaves no more harm than the repair on the selection split; `random` with as
    many entries as the repair.
    """
    target = next(each.harmful_score for each in attempts if each.dose == chosen.dose)
    harmful_only = PromptSets(prompts.selection.harmful, [], [])

    def attempt(dose: float) -> search.Outcome[None]:
        candidate = prepare(bench, "scale", dose)
        found = measure(bench.ruler, candidate.model, harmful_only, bench.report)
        discard(candidate)
        return search.Outcome(None, found.harmful_score <= target, too_strong=False)

    shrink, _ = search.smallest_passing(SHRINKS, FIRST_SHRINK, attempt)
    # None: not even the strongest shrink removes as much; it is shown as the closest there is.
    return [
        _control(bench, "scale", shrink or SHRINKS[-1], prompts.confirmation),
        _control(bench, "random", chosen.dose, prompts.confirmation),
    ]


def _control(bench: Bench, method: Method, dose: float, confirmation: PromptSets) -> Control:
    candidate = prepare(bench, method, dose)
    found = measure(bench.ruler, candidate.model, confirmation, bench.report)
    discard(candidate)
    return Control(method, dose, candidate.effective_dose, found)


def record(chosen: Candidate) -> Repair:
    """The chosen repair for the report."""
    return Repair(
        method=chosen.method,
        target=chosen.applied.target,
        dose=chosen.dose,
        effective_dose=chosen.effective_dose,
        changed_weights=chosen.applied.changed,
        scored_weights=chosen.applied.scored,
        files=chosen.applied.files,
    )


def nearest(attempts: list[Attempt]) -> str:
    """The attempt that lacked least, in words."""
    best = min(attempts, key=lambda each: (len(each.lacks), each.harmful_score))
    return _spoken(best)


def bytes_needed(source: Pulled) -> int:
    """Disk for the candidates that can lie side by side."""
    return CANDIDATES_AT_ONCE * weight_bytes(source.layout)


def discard(candidate: Candidate) -> None:
    """Free the disk: candidates are as large as the model."""
    shutil.rmtree(candidate.folder)
    if candidate.masks is not None:
        candidate.masks.unlink()


def _attempt(candidate: Candidate, found: Evaluation, lacks: list[str]) -> Attempt:
    return Attempt(
        dose=candidate.dose,
        effective_dose=candidate.effective_dose,
        harmful_score=found.harmful_score,
        over_refusal=found.benign.over_refusal if found.benign else None,
        task_accuracy=found.task.accuracy if found.task else None,
        degenerate=found.degenerate,
        passes=not lacks,
        lacks=lacks,
    )


def _spoken(tried: Attempt) -> str:
    return f"dose {tried.dose:g}: {'; '.join(tried.lacks) or 'passes'}"
