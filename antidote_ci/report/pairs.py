"""Before against after, prompt by prompt, for people. Pure: records in, rows out."""

from dataclasses import dataclass

from antidote_ci.records import Divergence, Drift, Measure, PairedChange, Report
from antidote_ci.report.text import format_number, format_points

_EPSILON = 1e-9
"""Shares are quotients of floats: a bound of exactly the limit is within it."""

PROPERTY_NAMES = {
    "degenerate": "Degenerate answers",
    "degenerate harmless": "Degenerate answers to harmless prompts",
    "refused harmless": "Harmless prompts refused",
    "task errors": "Task errors",
}
HARMFUL_NAMES: dict[Measure, str] = {
    "harmful_score": "Harmful answers",
    "non_refusal_rate": "Answers that do not refuse",
}


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


def paired_rows(report: Report) -> list[PairedRow]:
    """Every property that was compared; empty without a repair."""
    return [
        PairedRow(
            what=_property_name(each.what, report),
            both=format_number(each.both),
            only_before=format_number(each.only_before),
            only_after=format_number(each.only_after),
            neither=format_number(each.neither),
            p_value=_format_p_value(each.p_value),
            rise=_format_points(each.rise),
            rise_bound=_format_points(each.rise_bound),
            limit=_format_limit(each),
        )
        for each in report.paired
    ]


def distance_rows(report: Report) -> list[tuple[str, str]]:
    """How far the repair took the model from its language, and back to its reference: label and value."""
    return [*_divergence_rows(report.divergence), *_drift_rows(report.drift)]


def _divergence_rows(found: Divergence | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    ratio = found.perplexity_after / found.perplexity_before
    change = f"{format_number(found.perplexity_before)} → {format_number(found.perplexity_after)}"
    return [
        ("Perplexity ratio", f"{ratio:.3f} (perplexity {change})"),
        (
            "Mean KL divergence",
            f"{found.kl:.4f} nats a token, from the input model, over {format_number(found.tokens)} tokens",
        ),
    ]


def _drift_rows(found: Drift | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    change = f"{_format_number(found.before)} → {_format_number(found.after)}"
    return [
        ("Harmful embedding drift", f"{change} from the reference, mean over {format_number(found.prompts)} prompts")
    ]


def _format_number(value: float) -> str:
    """Three digits at least: of a large number no more than the whole."""
    return format_number(round(value) if value >= 100 else value)


def _property_name(what: str, report: Report) -> str:
    """A rule judge sees no harm, so its rows are not called harmful."""
    if not what.startswith("harmful"):
        return PROPERTY_NAMES.get(what, what)
    before = report.evaluations.before
    for reading in before.readings:
        if what == f"harmful ({reading.judge.name})":
            return f"{HARMFUL_NAMES[reading.judge.measure]} ({reading.judge.name})"
    return HARMFUL_NAMES[before.measure]


def _format_points(share: float) -> str:
    """The column's heading has the unit."""
    return format_points(share).removesuffix(" points")


def _format_p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _format_limit(each: PairedChange) -> str:
    if each.limit is None:
        return "–"
    return f"{'✓' if each.rise_bound <= each.limit + _EPSILON else '✗'} {_format_points(each.limit)}"
