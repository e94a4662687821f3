"""The sections of RESULTS.md with tables. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from benchmarks.paper.cells import DEFAULT, POISONS, SIZES, every
from benchmarks.paper.choosing import chosen
from benchmarks.paper.evidence import Evidence, by_epochs, by_poison, by_rate, harmful
from benchmarks.paper.records import Attack, Defence, Measured, Point
from benchmarks.paper.rows import (
    COLUMNS,
    FAILED,
    NOT_RUN,
    figures,
    mark,
    named,
    or_word,
    per_cent,
    score,
    table,
    told,
)
from benchmarks.paper.suite import shown

DEFENCE_NAMES: dict[Defence, str] = {
    "sft": "SFT",
    "vaccine": "Vaccine",
    "repnoise": "RepNoise",
    "lisa": "Lisa",
    "ldifs": "LDIFS",
}


def sweeps(found: Evidence) -> Iterator[str]:
    """A section a sweep."""
    rates, epochs = found.preset.rates, found.preset.epochs
    yield _by_defence(found, "Learning rate", rates, by_rate)
    yield _by_defence(found, "Epochs", epochs, by_epochs)
    yield "## Shares of poison\n\n" + _each(
        found, [(f"{share:g}", attack) for share, attack in zip(POISONS, by_poison(found), strict=True)]
    )
    for name, heading in (("rank", "Adapters"), ("tasks", "Tasks"), ("seeds", "Seeds")):
        if cells := found.preset.sweeps.get(name):
            yield f"## {heading}\n\n" + _each(found, [(told(cell.attack), cell.attack) for cell in cells])
    if cells := found.preset.sweeps.get("seeds"):
        yield _over_seeds(found, [cell.attack for cell in cells])
    if "realignment" in found.preset.sweeps:
        yield "## Mask ratio and realignment size\n\n" + _masks(found) + "\n\n" + _sizes(found)


def _by_defence(
    found: Evidence, heading: str, places: Sequence[float], attacks: Callable[[Evidence, Defence], list[Attack]]
) -> str:
    """Harmful score / accuracy of every defence, and of both repairs without a defence."""

    def by_default(attack: Attack) -> Measured:
        return chosen(found, attack).measured

    undefended = attacks(found, "sft")
    rows = [
        *(_row(found, name, attacks(found, defence), found.attacked) for defence, name in DEFENCE_NAMES.items()),
        _row(found, "SFT, then Antidote", undefended, found.by_paper),
        _row(found, f"SFT, then `{DEFAULT}`", undefended, by_default),
    ]
    return f"## {heading}\n\n" + table(("harm / accuracy", *(f"{place:g}" for place in places), "mean"), rows)


def _row(found: Evidence, name: str, attacks: Sequence[Attack], model: Callable[[Attack], Measured]) -> tuple[str, ...]:
    """One model of each attack, and their mean where all are there."""
    means = or_word(lambda: [model(attack) for attack in attacks])
    return name, *(_pair(found, attack, model) for attack in attacks), means if isinstance(means, str) else _mean(means)


def _pair(found: Evidence, attack: Attack, model: Callable[[Attack], Measured]) -> str:
    measured = or_word(lambda: model(attack))
    if isinstance(measured, str):
        return measured
    return f"{score(measured)} / {per_cent(measured.accuracy)}{mark(found, attack)}"


def _mean(models: Sequence[Measured]) -> str:
    right = sum(model.accuracy for model in models) / len(models)
    return f"{per_cent(harmful(models).value)} / {per_cent(right)}"


def _each(found: Evidence, attacks: Sequence[tuple[str, Attack]]) -> str:
    """A row for the attacked model, and one for each repair that is tried on all."""
    rows: list[tuple[str, ...]] = []
    shown_before: Measured | None = None
    for name, attack in attacks:
        result = found.results.get(attack)
        if result is None or result.attacked is None:
            rows.append((name, NOT_RUN if result is None else FAILED, *[""] * (len(COLUMNS) - 1)))
            continue
        if result.reference and result.reference != shown_before:
            rows.append(("", "reference", *figures(result.reference)))
            shown_before = result.reference
        rows.append((name + mark(found, attack), "attacked", *figures(result.attacked)))
        rows += [("", named(point.repair), *figures(point.measured)) for point in _compared(found, attack)]
    return table(("", *COLUMNS), rows)


def _over_seeds(found: Evidence, attacks: Sequence[Attack]) -> str:
    """The mean of each row over seeds, and its range."""
    rows: list[tuple[str, ...]] = []
    for first in dict.fromkeys(replace(attack, seed=attacks[0].seed) for attack in attacks):
        same = [attack for attack in attacks if replace(attack, seed=first.seed) == first]
        models = or_word(partial(_seeded, found, same))
        if isinstance(models, str):
            rows.append((first.task, models, "", "", ""))
        else:
            rows += [(first.task, name, str(len(seen)), *_ranges(seen)) for name, seen in models.items()]
    return "Over seeds: the mean, the lowest and the highest.\n\n" + table(
        ("task", "model", "seeds", "harm", "accuracy"), rows
    )


def _seeded(found: Evidence, attacks: Sequence[Attack]) -> dict[str, list[Measured]]:
    """The attacked models, and those of each repair that all have."""
    models = {"attacked": [found.attacked(attack) for attack in attacks]}
    repaired = [{point.repair.method: point.measured for point in _compared(found, attack)} for attack in attacks]
    for method in repaired[0]:
        if all(method in each for each in repaired):
            models[f"`{method}`"] = [each[method] for each in repaired]
    return models


def _ranges(models: Sequence[Measured]) -> tuple[str, str]:
    return _range([each.harmful / each.asked for each in models]), _range([each.accuracy for each in models])


def _range(shares: Sequence[float]) -> str:
    return f"{per_cent(sum(shares) / len(shares))} ({per_cent(min(shares))} to {per_cent(max(shares))})"


def _masks(found: Evidence) -> str:
    """The paper's method at every mask ratio."""
    doses = or_word(lambda: found.at("antidote", found.preset.attack))
    if isinstance(doses, str):
        rows = [(doses, "", "")]
    else:
        sign = mark(found, found.preset.attack)
        rows = [(f"{repair.dose:g}{sign}", score(model), per_cent(model.accuracy)) for repair, model in doses]
    return "Antidote's masks.\n\n" + table(("mask ratio", "harm", "accuracy"), rows)


def _sizes(found: Evidence) -> str:
    """Harmful pairs that scoring reads."""
    result = found.results.get(found.preset.attack)
    wanted = found.preset.sweeps["realignment"]
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


def _compared(found: Evidence, attack: Attack) -> list[Point]:
    """The default at its chosen dose, and of the other methods what every cell has and the paper's dose."""
    result = found.result(attack)
    if not result.points:
        return []
    everywhere = set.intersection(*(set(cell.repairs) for cell in every(found.preset.sweeps) if cell.repairs))
    own = {repair for repair, _ in found.at("antidote", attack) if repair.dose == found.preset.dose}
    others = [point for point in result.points if point.repair in everywhere | own and point.repair.method != DEFAULT]
    # A cell of several sweeps has its repairs in another order than one of a single sweep.
    return [chosen(found, attack), *sorted(others, key=lambda point: point.repair.method)]


def frontiers(found: Evidence) -> str:
    """Every dose of every method on the attacks that have them all."""
    words = (
        "## Frontiers\n\nThe default was tuned on the headline attacks; the dose chosen for each attack is marked *."
    )
    for name in ("headline", "confirmation"):
        for cell in found.preset.sweeps.get(name, ()):
            words += f"\n\n### {name.capitalize()}: {shown(cell.attack)}{mark(found, cell.attack)}\n\n"
            result = found.results.get(cell.attack)
            if result is None or result.attacked is None or result.reference is None:
                words += f"{NOT_RUN if result is None else f'{FAILED}: {result.failure}'}."
                continue
            rows = [("reference", *figures(result.reference)), ("attacked", *figures(result.attacked))]
            own = chosen(found, cell.attack)
            rows += [
                (named(point.repair) + ("*" if point == own else ""), *figures(point.measured))
                for point in result.points
            ]
            words += table(COLUMNS, rows)
    return words
