"""The figure of RESULTS.md: what was measured, with its bounds, and nothing where nothing was. Pure."""

from antidote_ci.records import Method
from benchmarks.drawing import Axis, Panel, Place, Series, draw, ticks
from benchmarks.paper.evidence import Evidence, harmful
from benchmarks.paper.records import Attack, Measured

METHODS: tuple[Method, ...] = ("taylor", "antidote", "scale", "random")
SCORE = Axis("answers not refused, %", (0, 20, 40, 60, 80, 100))
TITLE = "What each method leaves of the harm, and of the accuracy, dose by dose"


def draw_frontiers(evidence: Evidence) -> str | None:
    """An SVG with a panel an attack: accuracy across, harm up, the doses of each method joined."""
    panels = []
    for sweep in ("headline", "confirmation"):
        for cell in evidence.preset.sweeps.get(sweep, ()):
            result = evidence.results.get(cell.attack)
            if result is None or result.attacked is None or result.reference is None:
                continue
            ends = [
                Series("reference", [_place(result.reference)], joined=False),
                Series("attacked", [_place(result.attacked)], joined=False),
            ]
            methods = [(method, evidence.at(method, cell.attack)) for method in METHODS]
            series = [
                Series(method, [_place(model) for _, model in doses]) for method, doses in methods if doses
            ] + ends
            accuracies = [place.x for line in series for place in line.places]
            title = f"{sweep}: {_describe(evidence, cell.attack)}"
            panels.append(Panel(title, Axis("accuracy, %", ticks(accuracies, 20)), SCORE, series))
    return draw(TITLE, panels, columns=2) if panels else None


def _place(model: Measured) -> Place:
    share = harmful([model])
    return Place(100 * model.accuracy, 100 * share.value, 100 * share.low, 100 * share.high)


def _describe(evidence: Evidence, attack: Attack) -> str:
    """What an attack has that the default has not."""
    usual = evidence.preset.attack
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
