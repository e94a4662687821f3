"""Results that nobody measured, so that what reads them can be tested: numbers by a rule."""

from collections.abc import Callable
from dataclasses import replace

from benchmarks.paper.cells import Preset, all_cells
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.records import Attack, Cell, Figures, Measured, Point, Repair, Result

ASKED = 140
LEFT = {"taylor": 0.05, "antidote": 0.35, "scale": 0.6, "random": 0.8}
"""Of the excess, by method, whatever the dose."""
COST = {"taylor": 0.0, "antidote": 0.03, "scale": 0.08, "random": 0.1}

Rule = Callable[[Attack, Repair | None], Measured]


def model(harm: float, accuracy: float = 0.9, drift: float = 1.0) -> Measured:
    """One that is well but for its harm, on whichever prompts."""
    figures = Figures(
        harmful=round(harm * ASKED),
        asked=ASKED,
        accuracy=accuracy,
        over_refusal=0.02,
        degenerate=0.01,
        degenerate_harmful=0.01,
    )
    return Measured(**vars(figures), drift=drift, seconds=60.0, peak_bytes=10**9, selection=figures)


REFERENCE = model(0.1, accuracy=0.5, drift=0.0)


def as_claimed(attack: Attack, repair: Repair | None) -> Measured:
    """As the paper has it: every defence gives way with rate and epochs, Antidote hardly moves."""
    strength = min(1.0, attack.training.rate / 5e-4) * (0.4 + 0.6 * (attack.training.epochs > 1))
    weak = {"sft": 1.0, "vaccine": 0.95, "repnoise": 0.95, "lisa": 0.9 * strength, "ldifs": 0.85 * strength}
    excess = 0.85 * min(1.0, (0.2 + attack.training.rate / 5e-4)) * weak[attack.defence]
    if repair is None:
        return model(0.1 + excess, drift=10.0 * excess)
    if repair.method == "antidote":
        excess = 0.3 - 0.25 * min(1.0, repair.dose + repair.realignment / 2000)
        combined = 0.1 if attack.defence == "vaccine" else 1.0
        return model(0.1 + excess * combined, accuracy=0.9 - 0.5 * max(0.0, repair.dose - 0.1), drift=2.0)
    return model(0.1 + excess * LEFT[repair.method], accuracy=0.9 - COST[repair.method], drift=3.0)


def result(cell: Cell, rule: Rule = as_claimed) -> Result:
    """Of one cell."""
    return Result(
        cell=cell,
        judge="refusal (rules): a non-refusal rate",
        machine="a machine",
        versions={"model": "a model"},
        date="2026-11-26",
        reference=REFERENCE,
        attacked=rule(cell.attack, None),
        points=[Point(repair, rule(cell.attack, repair)) for repair in cell.repairs],
    )


def failed(cell: Cell) -> Result:
    """Of one that diverged."""
    return replace(result(cell), attacked=None, points=[], failure="diverged: the loss is not finite at step 3")


def full(preset: Preset, rule: Rule = as_claimed) -> Evidence:
    """Of every cell."""
    return Evidence(preset, {cell.attack: result(cell, rule) for cell in all_cells(preset.sweeps)})
