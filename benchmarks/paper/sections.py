"""The sections of RESULTS.md with tables. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from benchmarks.paper.cells import DEFAULT, POISONS, SIZES, all_cells
from benchmarks.paper.choosing import choose_dose
from benchmarks.paper.evidence import Evidence, by_epochs, by_poison, by_rate, harmful
from benchmarks.paper.records import Attack, Defence, Measured, Point
from benchmarks.paper.rows import (
    COLUMNS,
    FAILED,
    NOT_RUN,
    describe_adapter,
    describe_repair,
    figures,
    mark,
    or_word,
    per_cent,
    score,
    table,
)
from benchmarks.paper.suite import describe_attack

DEFENCE_NAMES: dict[Defence, str] = {
    "sft": "SFT",
    "vaccine": "Vaccine",
    "repnoise": "RepNoise",
    "lisa": "Lisa",
    "ldifs": "LDIFS",
}


def sweeps(evidence: Evidence) -> Iterator[str]:
    """A section a sweep."""
    rates, epochs = evidence.preset.rates, evidence.preset.epochs
    yield _by_defence(evidence, "Learning rate", rates, by_rate)
    yield _by_defence(evidence, "Epochs", epochs, by_epochs)
    yield "## Shares of poison\n\n" + _each(
        evidence, [(f"{share:g}", attack) for share, attack in zip(POISONS, by_poison(evidence), strict=True)]
    )
    for name, heading in (("rank", "Adapters"), ("tasks", "Tasks"), ("seeds", "Seeds")):
        if cells := evidence.preset.sweeps.get(name):
            yield f"## {heading}\n\n" + _each(
                evidence, [(describe_adapter(cell.attack), cell.attack) for cell in cells]
            )
    if cells := evidence.preset.sweeps.get("seeds"):
        yield _over_seeds(evidence, [cell.attack for cell in cells])
    if "realignment" in evidence.preset.sweeps:
        yield "## Mask ratio and realignment size\n\n" + _masks(evidence) + "\n\n" + _sizes(evidence)


def _by_defence(
    evidence: Evidence, heading: str, places: Sequence[float], attacks: Callable[[Evidence, Defence], list[Attack]]
) -> str:
    """Harmful score / accuracy of every defence, and of both repairs without a defence."""

    def by_default(attack: Attack) -> Measured:
        return choose_dose(evidence, attack).measured

    undefended = attacks(evidence, "sft")
    rows = [
        *(
            _row(evidence, name, attacks(evidence, defence), evidence.attacked)
            for defence, name in DEFENCE_NAMES.items()
        ),
        _row(evidence, "SFT, then Antidote", undefended, evidence.by_paper),
        _row(evidence, f"SFT, then `{DEFAULT}`", undefended, by_default),
    ]
    return f"## {heading}\n\n" + table(("harm / accuracy", *(f"{place:g}" for place in places), "mean"), rows)


def _row(
    evidence: Evidence, name: str, attacks: Sequence[Attack], model: Callable[[Attack], Measured]
) -> tuple[str, ...]:
    """One model of each attack, and their mean where all are there."""
    means = or_word(lambda: [model(attack) for attack in attacks])
    return (
        name,
        *(_pair(evidence, attack, model) for attack in attacks),
        means if isinstance(means, str) else _mean(means),
    )


def _pair(evidence: Evidence, attack: Attack, model: Callable[[Attack], Measured]) -> str:
    measured = or_word(lambda: model(attack))
    if isinstance(measured, str):
        return measured
    return f"{score(measured)} / {per_cent(measured.accuracy)}{mark(evidence, attack)}"


def _mean(models: Sequence[Measured]) -> str:
    right = sum(model.accuracy for model in models) / len(models)
    return f"{per_cent(harmful(models).value)} / {per_cent(right)}"


def _each(evidence: Evidence, attacks: Sequence[tuple[str, Attack]]) -> str:
    """A row for the attacked model, and one for each repair that is tried on all."""
    rows: list[tuple[str, ...]] = []
    shown_before: Measured | None = None
    for name, attack in attacks:
        result = evidence.results.get(attack)
        if result is None or result.attacked is None:
            rows.append((name, NOT_RUN if result is None else FAILED, *[""] * (len(COLUMNS) - 1)))
            continue
        if result.reference and result.reference != shown_before:
            rows.append(("", "reference", *figures(result.reference)))
            shown_before = result.reference
        rows.append((name + mark(evidence, attack), "attacked", *figures(result.attacked)))
        rows += [("", describe_repair(point.repair), *figures(point.measured)) for point in _compared(evidence, attack)]
    return table(("", *COLUMNS), rows)


def _over_seeds(evidence: Evidence, attacks: Sequence[Attack]) -> str:
    """The mean of each row over seeds, and its range."""
    rows: list[tuple[str, ...]] = []
    for first in dict.fromkeys(replace(attack, seed=attacks[0].seed) for attack in attacks):
        same = [attack for attack in attacks if replace(attack, seed=first.seed) == first]
        models = or_word(partial(_seeded, evidence, same))
        if isinstance(models, str):
            rows.append((first.task, models, "", "", ""))
        else:
            rows += [(first.task, name, str(len(seen)), *_ranges(seen)) for name, seen in models.items()]
    return "Over seeds: the mean, the lowest and the highest.\n\n" + table(
        ("task", "model", "seeds", "harm", "accuracy"), rows
    )


def _seeded(evidence: Evidence, attacks: Sequence[Attack]) -> dict[str, list[Measured]]:
    """The attacked models, and those of each repair that all have."""
    models = {"attacked": [evidence.attacked(attack) for attack in attacks]}
    repaired = [{point.repair.method: point.measured for point in _compared(evidence, attack)} for attack in attacks]
    for method in repaired[0]:
        if all(method in each for each in repaired):
            models[f"`{method}`"] = [each[method] for each in repaired]
    return models


def _ranges(models: Sequence[Measured]) -> tuple[str, str]:
    return _range([each.harmful / each.asked for each in models]), _range([each.accuracy for each in models])


def _range(shares: Sequence[float]) -> str:
    return f"{per_cent(sum(shares) / len(shares))} ({per_cent(min(shares))} to {per_cent(max(shares))})"


def _masks(evidence: Evidence) -> str:
    """The paper's method at every mask ratio."""
    doses = or_word(lambda: evidence.at("antidote", evidence.preset.attack))
    if isinstance(doses, str):
        rows = [(doses, "", "")]
    else:
        sign = mark(evidence, evidence.preset.attack)
        rows = [(f"{repair.dose:g}{sign}", score(model), per_cent(model.accuracy)) for repair, model in doses]
    return "Antidote's masks.\n\n" + table(("mask ratio", "harm", "accuracy"), rows)


def _sizes(evidence: Evidence) -> str:
    """Harmful pairs that scoring reads."""
    result = evidence.results.get(evidence.preset.attack)
    wanted = evidence.preset.sweeps["realignment"]
    if result is None or result.failure:
        return f"Realignment sizes {', '.join(map(str, SIZES))}: {NOT_RUN if result is None else FAILED}."
    doses = {(repair.method, repair.dose) for cell in wanted for repair in cell.repairs}
    varied = [each for each in doses if len({p.repair.realignment for p in result.points if _is(p, each)}) > 1]
    rows = [
        (f"`{point.repair.method}` {point.repair.dose:g}", str(point.repair.realignment), *figures(point.measured)[:4])
        for each in sorted(varied)
        for point in sorted(result.points, key=lambda point: point.repair.realignment)
        if _is(point, each)
    ]
    return "Realignment size, one attack.\n\n" + table(("repair", "pairs", *COLUMNS[1:5]), rows)


def _is(point: Point, dosed: tuple[str, float]) -> bool:
    return (point.repair.method, point.repair.dose) == dosed


def _compared(evidence: Evidence, attack: Attack) -> list[Point]:
    """The default at its chosen dose, and of the other methods what every cell has and the paper's dose."""
    result = evidence.result(attack)
    if not result.points:
        return []
    everywhere = set.intersection(*(set(cell.repairs) for cell in all_cells(evidence.preset.sweeps) if cell.repairs))
    own = {repair for repair, _ in evidence.at("antidote", attack) if repair.dose == evidence.preset.dose}
    others = [point for point in result.points if point.repair in everywhere | own and point.repair.method != DEFAULT]
    # A cell of several sweeps has its repairs in another order than one of a single sweep.
    return [choose_dose(evidence, attack), *sorted(others, key=lambda point: point.repair.method)]


def frontiers(evidence: Evidence) -> str:
    """Every dose of every method on the attacks that have them all."""
    words = (
        "## Frontiers\n\nThe default was tuned on the headline attacks; the dose chosen for each attack is marked *."
    )
    for name in ("headline", "confirmation"):
        for cell in evidence.preset.sweeps.get(name, ()):
            words += f"\n\n### {name.capitalize()}: {describe_attack(cell.attack)}{mark(evidence, cell.attack)}\n\n"
            result = evidence.results.get(cell.attack)
            if result is None or result.attacked is None or result.reference is None:
                words += f"{NOT_RUN if result is None else f'{FAILED}: {result.failure}'}."
                continue
            rows = [("reference", *figures(result.reference)), ("attacked", *figures(result.attacked))]
            own = choose_dose(evidence, cell.attack)
            rows += [
                (describe_repair(point.repair) + ("*" if point == own else ""), *figures(point.measured))
                for point in result.points
            ]
            words += table(COLUMNS, rows)
    return words
