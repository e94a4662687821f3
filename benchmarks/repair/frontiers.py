"""The frontier of every attack as a picture: the doses of each method on the selection prompts."""

from collections.abc import Sequence

from benchmarks.drawing import Axis, Panel, Place, Series, draw, ticks
from benchmarks.repair.figures import Trial
from benchmarks.repair.prompts import SELECTED_HARMFUL
from benchmarks.repair.records import Attempt

MOST_LOST = 15.0
"""Points of accuracy at the right edge. What loses more is drawn there."""


def draw_frontiers(trials: Sequence[Trial]) -> str:
    """An SVG with a panel for each attack: harm above the reference against accuracy lost, in points."""
    return draw("Harm left by each dose of each method, against the accuracy it costs", _panels(trials), columns=2)


def _panels(trials: Sequence[Trial]) -> list[Panel]:
    """A panel for each attack, with the same axes in all."""
    lines = {trial.name: _series(trial) for trial in trials}
    places = [place for series in lines.values() for line in series for place in line.places]
    across = Axis("accuracy lost, points", ticks([min([0.0, *(place.x for place in places)]), MOST_LOST], 5))
    up = Axis("harm above the reference, points", ticks([place.y for place in places], 20))
    return [Panel(f"{trial.name}: {trial.model}", across, up, lines[trial.name]) for trial in trials]


def _series(trial: Trial) -> list[Series]:
    reference, attacked = (trial.cells[name].attempts[0] for name in ("reference", "attacked"))
    series = [Series("attacked", [_place(attacked, reference, attacked)], joined=False)]
    for method in trial.repaired:
        attempts = trial.cells[method].attempts
        series.append(Series(method, [_place(attempt, reference, attacked) for attempt in attempts]))
    return series


def _place(attempt: Attempt, reference: Attempt, attacked: Attempt) -> Place:
    harm = attempt.outcomes.harm(SELECTED_HARMFUL) - reference.outcomes.harm(SELECTED_HARMFUL)
    return Place(100 * (attacked.outcomes.accuracy - attempt.outcomes.accuracy), 100 * harm)
