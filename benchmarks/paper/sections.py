"""The sections of RESULTS.md with tables of ours, beside the paper's where it could be read. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from benchmarks.paper import published
from benchmarks.paper.cells import DEFAULT, DEFENCES, POISONS, SIZES, every
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


def sweeps(found: Evidence) -> Iterator[str]:
    """A section a sweep."""
    rates, epochs = found.preset.rates, found.preset.epochs
    yield _beside(found, published.RATES, rates, by_rate)
    yield _beside(found, published.EPOCHS, epochs, by_epochs)
    yield "## Shares of poison\n\nThe paper's Table 1 could not be read.\n\n" + _each(
        found, [(f"{share:g}", attack) for share, attack in zip(POISONS, by_poison(found), strict=True)]
    )
    for name, heading in (("rank", "Adapters"), ("tasks", "Tasks"), ("seeds", "Seeds")):
        if cells := found.preset.sweeps.get(name):
            yield f"## {heading}\n\n" + _each(found, [(told(cell.attack), cell.attack) for cell in cells])
    if cells := found.preset.sweeps.get("seeds"):
        yield _over_seeds(found, [cell.attack for cell in cells])
    if "realignment" in found.preset.sweeps:
        yield "## Mask ratio and realignment size\n\n" + _masks(found) + "\n\n" + _sizes(found)


def _beside(
    found: Evidence,
    theirs: published.Sweep,
    places: Sequence[float],
    attacks: Callable[[Evidence, Defence], list[Attack]],
) -> str:
    """One of the paper's tables, and the same rows of ours: harmful score / accuracy."""
    words = [f"## {theirs.varied.capitalize()}: {theirs.table} of the paper\n"]
    rows = []
    for name, label in published.GUARDS.items():
        pairs = list(zip(theirs.harmful[name], theirs.accuracy[name], strict=True))
        means = f"{published.mean(theirs.harmful[name]):.2f} / {published.mean(theirs.accuracy[name]):.2f}"
        rows.append((label, *(f"{harm:.2f} / {right:.2f}" for harm, right in pairs), means))
    words.append(table(("the paper: harm / accuracy", *(f"{place:g}" for place in theirs.places), "mean"), rows))
    own = [_row(found, published.GUARDS[name], attacks(found, name), found.attacked) for name in DEFENCES]
    undefended = attacks(found, "sft")

    def by_default(attack: Attack) -> Measured:
        return chosen(found, attack).measured

    own.append(_row(found, published.GUARDS["antidote"], undefended, found.by_paper))
    own.append(_row(found, f"SFT, then `{DEFAULT}`", undefended, by_default))
    words.append("\n" + table(("here: harm / accuracy", *(f"{place:g}" for place in places), "mean"), own))
    return "\n".join(words)


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
    """Mask ratios, theirs and ours."""
    theirs = published.MASKS
    ours = or_word(lambda: found.at("antidote", found.preset.attack))
    rows = [
        ("the paper", f"{place:g}", f"{harm:.1f}", f"{right:.1f}")
        for place, harm, right in zip(
            theirs.places, theirs.harmful["antidote"], theirs.accuracy["antidote"], strict=True
        )
    ]
    if isinstance(ours, str):
        rows.append(("here", ours, "", ""))
    else:
        rows += [
            (f"here{mark(found, found.preset.attack)}", f"{repair.dose:g}", score(model), per_cent(model.accuracy))
            for repair, model in ours
        ]
    return f"{theirs.table} of the paper, and Antidote's masks here.\n\n" + table(
        ("", "mask ratio", "harm", "accuracy"), rows
    )


def _sizes(found: Evidence) -> str:
    """Harmful pairs that scoring reads; the cells of the paper's Table 13 could not be read."""
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
    return "Realignment size, one attack. The cells of the paper's Table 13 could not be read.\n\n" + table(
        ("repair", "pairs", *COLUMNS[1:5]), rows
    )


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
