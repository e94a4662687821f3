"""What was measured of a model, or of two on the same prompts."""

from dataclasses import dataclass, field
from typing import Literal

from antidote_ci.records.models import ComputeEnvironment

Measure = Literal["harmful_score", "non_refusal_rate"]
GateVerdict = Literal["pass", "fail", "inconclusive"]
AnswerOutcome = Literal["harmful", "safe", "degenerate", "unparsed"]


@dataclass(frozen=True)
class CategoryCount:
    """The answers to one category of harmful prompts."""

    harmful: int
    n: int
    """All of them, `samples` to a prompt."""


@dataclass(frozen=True)
class BenignResult:
    """Answers to harmless prompts. Shares of n."""

    over_refusal: float
    degenerate: float
    n: int
    judge: str = "refusal"
    """Who said what a refusal is: not every judge of harm does."""
    refused: dict[str, bool] = field(default_factory=dict)
    """By prompt id."""
    degenerated: dict[str, bool] = field(default_factory=dict)
    """By prompt id."""


@dataclass(frozen=True)
class TaskResult:
    """The user's own task. Share of n."""

    accuracy: float
    n: int
    match: str = "exact"
    """What counted as right: exact, prefix, last-number or choice."""
    right: dict[str, bool] = field(default_factory=dict)
    """By prompt id."""


@dataclass(frozen=True)
class JudgeIdentity:
    """Which judge it was, exactly."""

    name: str
    """As it is named on the command line: `qwen3guard`, `refusal`."""
    measure: Measure
    """What the share of its `harmful` verdicts may be called."""
    model: str | None = None
    """The repository, folder or served model that judged; None for rules."""
    revision: str | None = None
    detail: str = ""
    """What else decides its verdicts, for people: a window, a mode, a licence."""


@dataclass(frozen=True)
class Rate:
    """A share that was measured: `hits` of `n`, with its two one-sided 95 % bounds."""

    hits: int
    n: int
    share: float
    bounds: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """What `judge calibrate` measured: a judge against human labels.

    Positive means harmful, or, for a non-refusal rate, not refused.
    """

    schema_version: int
    tool_version: str
    judge: JudgeIdentity
    labels: str
    """The file's name."""
    labels_sha256: str
    n: int
    sensitivity: float
    specificity: float
    balanced_accuracy: float
    positives: Rate
    """The labelled positives that the judge called harmful: sensitivity with its bounds."""
    negatives: Rate
    """The labelled negatives that it did not: specificity with its bounds."""
    unparsed: int
    categories: dict[str, tuple[Rate | None, Rate | None]]
    """Category -> sensitivity and specificity there; None where nothing of that label stands."""


@dataclass(frozen=True)
class SequentialLook:
    """One moment of a sequential test: evidence after n prompts, as e-values (1/error decides)."""

    n: int
    harmful: float
    for_pass: float
    """Natural logarithm of the e-value against `the true score is at least the threshold`."""
    for_fail: float
    """The same against `the true score is at most the threshold`."""


@dataclass(frozen=True)
class JudgeResult:
    """What one judge made of the answers to the harmful prompts."""

    judge: JudgeIdentity
    harmful_score: float
    """Harmful over all n, as the judge saw it."""
    bounds: tuple[float, float]
    """Of the true score: corrected for the judge's errors when it was calibrated."""
    corrected_score: float | None
    """Rogan and Gladen's estimate, where the judge was calibrated."""
    unparsed: float
    degenerate: float
    verdict: GateVerdict
    decided_by: Literal["fixed", "sequence"]
    """The exact bound on all prompts, or the anytime-valid test that stopped early."""
    outcomes: dict[str, AnswerOutcome]
    """By prompt id: the worst of its answers."""
    trace: list[SequentialLook]


@dataclass(frozen=True)
class Evaluation:
    """One model measured on one set of prompts. Its first figures are those of the judge that decides."""

    harmful_score: float
    measure: Measure
    """What `harmful_score` is: a judge's harmful score, or the rule judge's non-refusal rate."""
    bounds: tuple[float, float]
    """One-sided lower and upper bound of `harmful_score`, each with `confidence`."""
    n: int
    degenerate: float
    truncated: float
    unparsed: float
    judge: str
    threshold: float
    verdict: GateVerdict
    categories: dict[str, CategoryCount]
    benign: BenignResult | None
    task: TaskResult | None
    plan: ComputeEnvironment
    confidence: float
    """Of each bound: 0.95, or 0.975 where an early stop was allowed (the 5 % is then split between two tests)."""
    planned: int
    """Prompts of the whole set; more than `n` when the test stopped early."""
    samples: int
    """Answers a prompt; each prompt then counts as the mean of its answers."""
    readings: list[JudgeResult]
    """One a judge; the worst decides."""
    disagreement: float | None
    """Share of prompts on which two judges differ."""

    @property
    def deciding_result(self) -> JudgeResult:
        """The reading that the first figures are of."""
        return next(each for each in self.readings if each.judge.name == self.judge)


@dataclass(frozen=True)
class PairedComparison:
    """A yes-or-no property of the same prompts, before and after a repair."""

    both: int
    only_before: int
    only_after: int
    neither: int
    p_value: float
    """Exact McNemar, two-sided."""
    rise: float
    """After minus before, as a share of all."""
    rise_bound: float
    """One-sided 95 % upper bound of the rise."""


@dataclass(frozen=True)
class PairedChange(PairedComparison):
    """A comparison that a report speaks of."""

    what: str
    """`harmful` (with the judge's name where there are two), `degenerate`, `refused harmless`, `task errors`."""
    limit: float | None
    """The policy's limit of the bound, where it has one."""


@dataclass(frozen=True)
class Divergence:
    """How far the repaired model's language is from the input model's, on that one's answers to harmless prompts."""

    perplexity_before: float
    perplexity_after: float
    kl: float
    """Mean over tokens of KL(input model || repaired model), in nats."""
    tokens: int


@dataclass(frozen=True)
class Drift:
    """How far attention on harmful prompts is from the reference's: harmful embedding drift, 0 for the reference."""

    before: float
    after: float
    prompts: int
