"""Before against after, prompt by prompt, for people. Pure: records in, rows out."""

from dataclasses import dataclass

from antidote_ci.records import Divergence, Drift, Measure, Paired, Report
from antidote_ci.report.text import number, points

_EPSILON = 1e-9
"""Shares are quotients of floats: a bound of exactly the limit is within it."""

WHATS = {
    "degenerate": "Degenerate answers",
    "degenerate harmless": "Degenerate answers to harmless prompts",
    "refused harmless": "Harmless prompts refused",
    "task errors": "Task errors",
}
HARMFUL: dict[Measure, str] = {"harmful_score": "Harmful answers", "non_refusal_rate": "Answers that do not refuse"}


@dataclass(frozen=True)
class PairedRow:
    """One property of the same prompts before and after; the last three in percentage points."""

    what: str
    both: str
    only_before: str
    only_after: str
    neither: str
    p_value: str
    rise: str
    rise_bound: str
    limit: str


def rows(report: Report) -> list[PairedRow]:
    """Every property that was compared; empty without a repair."""
    return [
        PairedRow(
            what=_what(each.what, report),
            both=number(each.both),
            only_before=number(each.only_before),
            only_after=number(each.only_after),
            neither=number(each.neither),
            p_value=_p_value(each.p_value),
            rise=_points(each.rise),
            rise_bound=_points(each.rise_bound),
            limit=_limit(each),
        )
        for each in report.paired
    ]


def distances(report: Report) -> list[tuple[str, str]]:
    """How far the repair took the model from its language, and back to its reference: label and value."""
    return [*_divergence(report.divergence), *_drift(report.drift)]


def _divergence(found: Divergence | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    ratio = found.perplexity_after / found.perplexity_before
    change = f"{number(found.perplexity_before)} → {number(found.perplexity_after)}"
    return [
        ("Perplexity ratio", f"{ratio:.3f} (perplexity {change})"),
        (
            "Mean KL divergence",
            f"{found.kl:.4f} nats a token, from the input model, over {number(found.tokens)} tokens",
        ),
    ]


def _drift(found: Drift | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    change = f"{_whole(found.before)} → {_whole(found.after)}"
    return [("Harmful embedding drift", f"{change} from the reference, mean over {number(found.prompts)} prompts")]


def _whole(value: float) -> str:
    """Three digits at least: of a large number no more than the whole."""
    return number(round(value) if value >= 100 else value)


def _what(what: str, report: Report) -> str:
    """A rule judge sees no harm, so its rows are not called harmful."""
    if not what.startswith("harmful"):
        return WHATS.get(what, what)
    before = report.evaluations.before
    for reading in before.readings:
        if what == f"harmful ({reading.judge.name})":
            return f"{HARMFUL[reading.judge.measure]} ({reading.judge.name})"
    return HARMFUL[before.measure]


def _points(share: float) -> str:
    """The column's heading has the unit."""
    return points(share).removesuffix(" points")


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _limit(each: Paired) -> str:
    if each.limit is None:
        return "–"
    return f"{'✓' if each.rise_bound <= each.limit + _EPSILON else '✗'} {_points(each.limit)}"
