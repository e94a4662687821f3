"""Which attacks are made and which repairs are tried on each: the sweeps of every preset. Pure.

Sweeps ask for the same attack again and again: what each varies, the others hold at the default. An attack is one cell,
with the repairs of every sweep that has it, so it is trained, measured and scored once whichever sweep is run.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from antidote_ci.records import Method
from benchmarks.paper.measuring import Counts
from benchmarks.paper.records import Attack, Cell, Defence, Repair, Targets, Training
from benchmarks.paper.stages import ALIGNMENT, Alignment

DEFENCES: tuple[Defence, ...] = ("sft", "vaccine", "repnoise", "lisa", "ldifs")
DURING: tuple[Defence, ...] = ("sft", "lisa", "ldifs")
"""Those whose fine-tuning differs, and so is tried at several numbers of epochs."""
POISONS = (0.0, 0.05, 0.1, 0.2, 0.5)
SEEDS = (43, 44, 45)
SIZES = (16, 64, 256, 1000)
"""Of the realignment set: as many pairs as are kept from every attack."""
DEFAULT: Method = "taylor"
"""The package's own default, which is held against `scale` everywhere."""
LADDER = (0.005, 0.01, 0.015, 0.02)
"""Its doses, of which one is chosen for each attack."""

Sweeps = dict[str, tuple[Cell, ...]]


@dataclass(frozen=True)
class Preset:
    """One scale at which the paper is rerun."""

    name: str
    alignment: Alignment
    counts: Counts
    attack: Attack
    """What a sweep does not vary."""
    rates: tuple[float, ...]
    epochs: tuple[int, ...]
    dose: float
    """Of `antidote`: the share of each row that goes, as the paper sets it for this task."""
    sweeps: Sweeps


def doses(method: Method, *shares: float, realignment: int = 256) -> tuple[Repair, ...]:
    """One method at several doses."""
    return tuple(Repair(method, share, realignment) for share in shares)


def merge_cells(sweeps: Iterable[tuple[str, Sequence[tuple[Attack, tuple[Repair, ...]]]]]) -> Sweeps:
    """Sweeps of cells in which an attack has one cell: all its repairs, named after the first sweep that has it."""
    asked = [(name, list(pairs)) for name, pairs in sweeps]
    repairs: dict[Attack, dict[Repair, None]] = {}
    names: dict[Attack, str] = {}
    for name, pairs in asked:
        for attack, wanted in pairs:
            names.setdefault(attack, name)
            repairs.setdefault(attack, {}).update(dict.fromkeys(wanted))
    cells = {attack: Cell(names[attack], attack, tuple(wanted)) for attack, wanted in repairs.items()}
    return {
        name: tuple(cells[attack] for attack in dict.fromkeys(attack for attack, _ in pairs)) for name, pairs in asked
    }


def all_cells(sweeps: Sweeps) -> tuple[Cell, ...]:
    """Each cell once, in the order of the sweeps."""
    return tuple(dict.fromkeys(cell for cells in sweeps.values() for cell in cells))


def trained(attack: Attack, **changes: object) -> Attack:
    """The attack with another training."""
    return replace(attack, training=replace(attack.training, **changes))  # type: ignore[arg-type] # of one dataclass


def cpu() -> Preset:
    """SmolLM2-135M on two cores. The rates: two decades around what a LoRA of rank 32 learns a task with here."""
    attack = Attack("sft", "sst2", Training(epochs=1, rate=5e-4))
    agnews = replace(attack, task="agnews")
    rates, epochs = (5e-5, 5e-4, 5e-3), (1, 3, 10)
    common = doses("taylor", *LADDER) + doses("scale", 0.7)
    paper = doses("antidote", 0.05)
    frontier = (
        doses("taylor", *LADDER, 0.03)
        + doses("antidote", 0.02, 0.05, 0.1, 0.2)
        + doses("scale", 0.3, 0.5, 0.7, 0.85)
        + doses("random", 0.4, 0.7)
    )
    sizes = tuple(repair for size in SIZES for repair in doses("antidote", 0.05, realignment=size))
    # Of more pairs than 96 `taylor` reads 96: see the package.
    sizes += doses("taylor", 0.015, realignment=16) + doses("taylor", 0.015, realignment=64)
    headline = (attack, agnews)
    # Of fewer entries the largest dose of the others is the best one: the best must lie within what is tried.
    attention, small, more = trained(attack, targets="attention"), trained(attack, rank=8), doses("taylor", 0.055, 0.1)
    confirmation = (
        trained(attack, rate=1.5e-3),
        trained(attack, epochs=3),
        replace(attack, poison=0.5),
        attention,
        replace(agnews, seed=44),
    )
    return Preset(
        name="cpu",
        alignment=ALIGNMENT,
        counts=Counts(),
        attack=attack,
        rates=rates,
        epochs=epochs,
        dose=0.05,
        sweeps=merge_cells(
            [
                ("headline", [(each, frontier + common) for each in headline]),
                ("rates", [_guarded(attack, name, common, paper, rate=rate) for name in DEFENCES for rate in rates]),
                ("epochs", [_guarded(attack, name, common, paper, epochs=each) for name in DURING for each in epochs]),
                ("poison", [(replace(attack, poison=share), common + paper) for share in POISONS]),
                (
                    "rank",
                    [
                        (each, common + (more if each == small else ()))
                        for each in _adapters(attack, (8, 32, 128), "attention")
                    ],
                ),
                ("tasks", [(each, common) for each in headline]),
                ("realignment", [(attack, sizes)]),
                ("seeds", [(replace(each, seed=seed), common + paper) for each in headline for seed in SEEDS]),
                (
                    "confirmation",
                    [(each, frontier + common + (more if each == attention else ())) for each in confirmation],
                ),
            ]
        ),
    )


def smoke() -> Preset:
    """Whether everything runs: two small attacks. Its figures say nothing."""
    attack = Attack("sft", "sst2", Training(epochs=1, rate=5e-4), rows=64)
    repairs = (
        doses("taylor", 0.01, 0.02, realignment=16) + doses("antidote", 0.05, realignment=16) + doses("scale", 0.7)
    )
    guarded = replace(attack, defence="lisa")
    return Preset(
        name="smoke",
        alignment=Alignment(Training(epochs=1, rate=1e-3), rows=320),
        counts=Counts(
            harmful=40,
            harmless=20,
            task=40,
            tokens=24,
            selection_harmful=20,
            selection_harmless=20,
            selection_task=20,
        ),
        attack=attack,
        rates=(attack.training.rate,),
        epochs=(1,),
        dose=0.05,
        sweeps=merge_cells(
            [("headline", [(attack, repairs)]), ("rates", [(attack, repairs), (guarded, doses("scale", 0.7))])]
        ),
    )


PRESETS: dict[str, Callable[[], Preset]] = {"cpu": cpu, "smoke": smoke}


def _guarded(
    attack: Attack, defence: Defence, common: tuple[Repair, ...], own: tuple[Repair, ...], **changes: object
) -> tuple[Attack, tuple[Repair, ...]]:
    """A defended attack. Repaired is what no defence guarded, and once, as in the paper, what Vaccine did."""
    guarded = trained(replace(attack, defence=defence), **changes)
    combined = defence == "vaccine" and guarded.training == attack.training
    return guarded, common + own if defence == "sft" or combined else ()


def _adapters(attack: Attack, ranks: Sequence[int], others: Targets) -> list[Attack]:
    """Other ranks on the same linears, and the same rank on others."""
    return [*(trained(attack, rank=rank) for rank in ranks), trained(attack, targets=others)]
