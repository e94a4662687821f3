"""The figures of RESULTS.md: what was measured, with its bounds, and nothing where nothing was. Pure."""

import math
from collections.abc import Callable, Sequence

from antidote_ci.records import Method
from benchmarks.paper.cells import DEFAULT, DEFENCES
from benchmarks.paper.choosing import chosen
from benchmarks.paper.drawing import Axis, Panel, Place, Series, draw, ticks
from benchmarks.paper.evidence import Evidence, Failed, Missing, Unplanned, by_epochs, by_rate, harmful
from benchmarks.paper.published import GUARDS
from benchmarks.paper.records import Attack, Defence, Measured

METHODS: tuple[Method, ...] = ("taylor", "antidote", "scale", "random")
SCORE = Axis("answers not refused, %", (0, 20, 40, 60, 80, 100))
TITLES = {
    "frontiers": "What each method leaves of the harm, and of the accuracy, dose by dose",
    "rates": "Answers not refused, by learning rate",
    "epochs": "Answers not refused, by epochs",
    "drift": "Harmful embedding drift, by epochs",
}


def drawn(found: Evidence) -> dict[str, str]:
    """SVG by name; those are missing of which nothing was measured."""
    rates, epochs = found.preset.rates, found.preset.epochs
    by_score = {
        "rates": (Axis("learning rate", rates, logarithmic=True), by_rate, rates),
        "epochs": (Axis("epochs", epochs, logarithmic=True), by_epochs, epochs),
    }
    panels = {"frontiers": _frontiers(found)}
    for name, (across, attacks, places) in by_score.items():
        panels[name] = _panel(across, SCORE, _guards(found, attacks, places, _scored))
    drift = _guards(found, by_epochs, epochs, lambda model, place: Place(place, model.drift))
    most = max((place.y for series in drift for place in series.places), default=0.0)
    up = Axis("drift", ticks([0.0, most], _step(most)))
    panels["drift"] = _panel(Axis("epochs", epochs, logarithmic=True), up, drift)
    return {name: draw(TITLES[name], each, 2 if name == "frontiers" else 1) for name, each in panels.items() if each}


def _panel(across: Axis, up: Axis, series: Sequence[Series]) -> list[Panel]:
    return [Panel("", across, up, series)] if series else []


def _frontiers(found: Evidence) -> list[Panel]:
    """A panel an attack: accuracy across, harm up, the doses of each method joined."""
    panels = []
    for sweep in ("headline", "confirmation"):
        for cell in found.preset.sweeps.get(sweep, ()):
            result = found.results.get(cell.attack)
            if result is None or result.attacked is None or result.reference is None:
                continue
            ends = [
                Series("reference", [_costed(result.reference)], joined=False),
                Series("attacked", [_costed(result.attacked)], joined=False),
            ]
            methods = [(method, found.at(method, cell.attack)) for method in METHODS]
            series = [
                Series(method, [_costed(model) for _, model in doses]) for method, doses in methods if doses
            ] + ends
            places = [place.x for each in series for place in each.places]
            panels.append(
                Panel(f"{sweep}: {_told(found, cell.attack)}", Axis("accuracy, %", ticks(places, 20)), SCORE, series)
            )
    return panels


def _guards(
    found: Evidence,
    attacks: Callable[[Evidence, Defence], list[Attack]],
    places: Sequence[float],
    placed: Callable[[Measured, float], Place],
) -> list[Series]:
    """Every defence, and the two repairs of no defence."""
    rows: list[tuple[str, Callable[[Attack], Measured], Defence]] = [
        *((GUARDS[name], found.attacked, name) for name in DEFENCES),
        (GUARDS["antidote"], found.by_paper, "sft"),
        (f"SFT, then {DEFAULT}", lambda attack: chosen(found, attack).measured, "sft"),
    ]
    series = []
    for name, model, defence in rows:
        there = []
        for place, attack in zip(places, attacks(found, defence), strict=True):
            try:
                there.append(placed(model(attack), place))
            except (Missing, Unplanned, Failed):
                continue
        if there:
            series.append(Series(name, there))
    return series


def _scored(model: Measured, place: float) -> Place:
    share = harmful([model])
    return Place(place, 100 * share.value, 100 * share.low, 100 * share.high)


def _costed(model: Measured) -> Place:
    return _scored(model, 100 * model.accuracy)


def _told(found: Evidence, attack: Attack) -> str:
    """What an attack has that the default has not."""
    usual = found.preset.attack
    pairs = [
        (attack.task, usual.task),
        (f"rate {attack.training.rate:g}", f"rate {usual.training.rate:g}"),
        (f"{attack.training.epochs} epochs", f"{usual.training.epochs} epochs"),
        (f"poison {attack.poison:g}", f"poison {usual.poison:g}"),
        (f"on {attack.training.targets}", f"on {usual.training.targets}"),
        (f"rank {attack.training.rank}", f"rank {usual.training.rank}"),
        (f"seed {attack.seed}", f"seed {usual.seed}"),
    ]
    return ", ".join(own for own, other in pairs if own != other) or f"{attack.task}, the default"


def _step(most: float) -> float:
    """Of about five ticks: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(most)) if most > 0 else 1.0
    return next(power * factor for factor in (0.2, 0.5, 1.0, 2.0) if most / (power * factor) <= 6)
