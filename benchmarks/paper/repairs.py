"""Every repair of the package, through its public API: weights scored once a method, as many doses as are asked for.

`antidote` is the paper's, https://arxiv.org/abs/2408.09600; `taylor` is the package's default; `scale` (WiSE-FT,
https://arxiv.org/abs/2109.01903) and `random` are the controls that the paper does without.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.measure import PromptSets
from antidote_ci.evaluation.prompts import require_disjoint
from antidote_ci.evaluation.splits import RepairPrompts
from antidote_ci.pipeline import candidates, resolve
from antidote_ci.pipeline.candidates import CandidateFactory, MethodMasks
from antidote_ci.records import PromptRow, ReportedReference
from antidote_ci.repair.apply import Provenance
from antidote_ci.repair.taylor import MAX_BENIGN, MAX_TASK
from benchmarks.paper.cells import DEFAULT
from benchmarks.paper.cost import watching
from benchmarks.paper.data import REALIGNMENT, Data
from benchmarks.paper.measuring import Instruments, measure, silent
from benchmarks.paper.records import Point, Repair, TaskName

BUDGET = 1 << 30
"""Bytes of hidden states that scoring keeps in memory; the package's default."""
SCORED_HARMLESS = 2000
"""Where the harmless prompts that scoring reads begin: none of them is measured."""


@dataclass(frozen=True)
class _Ready:
    """A method whose weights are scored."""

    factory: CandidateFactory
    method_masks: MethodMasks
    seconds: float
    peak_bytes: int


def read_repair_prompts(data: Data, task: TaskName, measured: int, realignment: int) -> RepairPrompts:
    """What scoring reads: harmful pairs that no attack trains on, harmless prompts, and prompts of the user's task.

    `measured` rows of the task, the first ones, are measured and so not read; it is what a run with a task of its own
    does. `realignment` is the most that a repair reads of the pairs.
    """
    pairs = data.harmful_pairs(REALIGNMENT.start, realignment)
    return RepairPrompts(
        realignment=[PromptRow(pair.prompt, response=pair.response) for pair in pairs],
        benign=[PromptRow(prompt) for prompt in data.harmless_prompts(SCORED_HARMLESS, MAX_BENIGN)],
        task=data.task_rows(task, measured + MAX_TASK)[measured:],
    )


def repaired(
    instruments: Instruments,
    repairs: Sequence[Repair],
    source: Path,
    reference: Path,
    texts: RepairPrompts,
    choosing: PromptSets | None = None,
) -> Iterator[Point]:
    """One point a repair of the attacked `source`, an adapter's folder or merged weights, in the order asked.

    With `choosing` the default's doses are measured on those prompts too. An adapter's factors are what is scored; of
    merged weights, the difference to `reference`. The cost of a point is that of its method's scoring, its own weights
    and their measurement, though the scoring is shared. Candidates, scores and masks are gone at the end. Raises
    ConfigurationError for a repair that reads more pairs than there are.
    """
    _require_enough(repairs, texts)
    _require_apart(instruments, choosing, texts)
    with TemporaryDirectory(dir=instruments.work, prefix="repairs-") as name:
        ready: dict[tuple[str, int], _Ready] = {}
        for repair in repairs:
            alike = repair.method, repair.realignment
            if alike not in ready:
                rows = dataclasses.replace(texts, realignment=texts.realignment[: repair.realignment])
                factory = _build_factory(
                    instruments, source, reference, rows, Path(name) / f"realignment-{repair.realignment}"
                )
                same = [each for each in repairs if (each.method, each.realignment) == alike]
                ready[alike] = _scored(factory, same)
            yield _point(instruments, ready[alike], repair, choosing if repair.method == DEFAULT else None)


def _scored(factory: CandidateFactory, repairs: Sequence[Repair]) -> _Ready:
    """All doses of one method."""
    with watching() as cost:
        method_masks = candidates.build_method_masks(
            factory, repairs[0].method, sorted({each.dose for each in repairs})
        )
        return _Ready(factory, method_masks, cost.seconds, cost.peak_bytes)


def _point(instruments: Instruments, ready: _Ready, repair: Repair, choosing: PromptSets | None) -> Point:
    # Of doses that change the same entries the remedy has the smallest alone.
    dose = max(each for each in ready.method_masks.doses if each <= repair.dose)
    with watching() as cost, candidates.prepare_trial(ready.factory, ready.method_masks, dose) as model:
        found = measure(instruments, model, cost, choosing)
    return Point(
        repair,
        dataclasses.replace(
            found, seconds=found.seconds + ready.seconds, peak_bytes=max(found.peak_bytes, ready.peak_bytes)
        ),
    )


def _build_factory(
    instruments: Instruments, source: Path, reference: Path, texts: RepairPrompts, folder: Path
) -> CandidateFactory:
    """Where repairs of `source` are made, in `folder`. Raises ConfigurationError for a reference that does not fit."""
    found = resolve.open_local(str(source))
    named = ReportedReference(str(reference), None, "option")
    folder.mkdir(exist_ok=True)
    return CandidateFactory(
        sandbox=instruments.sandbox,
        source=found,
        reference=resolve.resolve_reference(found, named, silent),
        repair_prompts=texts,
        scoring_prompts=None,
        provenance=Provenance("benchmark", found.source, named, ""),
        budget=BUDGET,
        scores=folder / "scores",
        masks=folder / "masks",
        work=folder,
        on_progress=silent,
        in_memory=False,  # the drift is measured block by block, from files
        source_identities={},
        reference_identities={},
    )


def _require_enough(repairs: Sequence[Repair], texts: RepairPrompts) -> None:
    most = max((repair.realignment for repair in repairs), default=0)
    if most > len(texts.realignment):
        raise ConfigurationError(
            f"a repair reads {most} harmful pairs, and there are {len(texts.realignment)}",
            hint="bring more, or ask for fewer",
        )


def _require_apart(instruments: Instruments, choosing: PromptSets | None, texts: RepairPrompts) -> None:
    """What shapes a repair must not measure it, and what chooses its dose neither."""
    scored = [*texts.realignment, *texts.benign, *texts.task]
    sets = {"measured": instruments.prompts, "selection": choosing or PromptSets([], [], [])}
    asked = {name: [*rows.harmful, *rows.benign, *rows.task] for name, rows in sets.items()}
    require_disjoint({**asked, "scored": scored})
