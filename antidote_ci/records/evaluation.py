"""Results of an evaluation, and of the comparison of two evaluations."""

from dataclasses import dataclass, field
from typing import Literal

from antidote_ci.records.models import ComputeEnvironment

Measure = Literal["harmful_score", "non_refusal_rate"]
MEASURE_NAMES: dict[Measure, str] = {"harmful_score": "harmful score", "non_refusal_rate": "non-refusal rate"}
GateVerdict = Literal["pass", "fail", "inconclusive"]
AnswerOutcome = Literal["harmful", "safe", "degenerate", "unfinished", "unparsed"]
"""`unfinished`: a thought without an end, and so without an answer."""


@dataclass(frozen=True)
class CategoryCount:
    """Answers to the harmful prompts of one category."""

    harmful: int
    n: int
    """Number of answers, with `samples` per prompt."""


@dataclass(frozen=True)
class KindResult:
    """The harmful prompts of one kind, such as questions."""

    kind: str
    harmful: float
    """Prompts that are answered harmfully; a fraction with several answers per prompt."""
    n: int
    bounds: tuple[float, float]
    """One-sided 95 % bounds of the share, each corrected for the number of kinds (Bonferroni)."""
    unseen: bool
    """Whether the repair reads no prompt of this kind."""


@dataclass(frozen=True)
class BenignResult:
    """Answers to harmless prompts, as shares of n."""

    over_refusal: float
    degenerate: float
    n: int
    judge: str = "refusal"
    """The judge that detected refusals."""
    refused: dict[str, bool] = field(default_factory=dict)
    """By prompt id."""
    degenerated: dict[str, bool] = field(default_factory=dict)
    """By prompt id, unfinished thoughts included."""
    unfinished: float = 0.0
    """Thoughts without an end, which `degenerate` does not count."""


@dataclass(frozen=True)
class TaskResult:
    """Answers to the user's task, as a share of n."""

    accuracy: float
    n: int
    match: str = "exact"
    """How answers are matched: exact, prefix, last-number or choice."""
    right: dict[str, bool] = field(default_factory=dict)
    """By prompt id."""
    unfinished: float = 0.0
    """Thoughts without an end."""


@dataclass(frozen=True)
class JudgeIdentity:
    """Identity of a judge."""

    name: str
    """Name on the command line: `qwen3guard`, `refusal`."""
    measure: Measure
    """Name of the share of its `harmful` verdicts."""
    model: str | None = None
    """Repository, folder or served model; None for rules."""
    revision: str | None = None
    detail: str = ""
    """Settings that influence its verdicts, for people, such as the mode."""


@dataclass(frozen=True)
class Rate:
    """A measured share, `hits` of `n`, with its two one-sided 95 % bounds."""

    hits: int
    n: int
    share: float
    bounds: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """A judge against human labels, as measured by `judge calibrate`.

    Positive means harmful; for a non-refusal rate, not refused.
    """

    schema_version: int
    tool_version: str
    judge: JudgeIdentity
    labels: str
    """Name of the file of labels."""
    labels_sha256: str
    n: int
    sensitivity: float
    specificity: float
    balanced_accuracy: float
    positives: Rate
    """Labelled positives that the judge called harmful: sensitivity with its bounds."""
    negatives: Rate
    """Labelled negatives that it did not call harmful: specificity with its bounds."""
    unparsed: int
    categories: dict[str, tuple[Rate | None, Rate | None]]
    """Category -> sensitivity and specificity; None without labels of that kind."""


@dataclass(frozen=True)
class JudgeResult:
    """One judge's result on the answers to the harmful prompts."""

    judge: JudgeIdentity
    harmful_score: float
    """Uncorrected share of harmful prompts among all n."""
    bounds: tuple[float, float]
    """Bounds of the true score, corrected for the judge's errors when it was calibrated."""
    corrected_score: float | None
    """Rogan-Gladen estimate; None when the judge was not calibrated."""
    unparsed: float
    degenerate: float
    verdict: GateVerdict
    decided_by: Literal["fixed", "sequence"]
    """The exact bound on all prompts, or the anytime-valid sequential test."""
    outcomes: dict[str, AnswerOutcome]
    """Prompt id -> outcome of its worst answer."""
    unfinished: float = 0.0

    @property
    def bounded_score(self) -> float:
        """The score that the bounds belong to."""
        return self.harmful_score if self.corrected_score is None else self.corrected_score


@dataclass(frozen=True)
class Evaluation:
    """One model evaluated on one set of prompts. The score and its bounds are those of the judge that decides."""

    harmful_score: float
    measure: Measure
    """Measure of `harmful_score`: a harmful score, or the non-refusal rate of the rule judge."""
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
    """Of each bound: 0.95, or 0.975 when early stopping was allowed, which splits the 5 % between two tests."""
    planned: int
    """Number of prompts of the set; more than `n` when the evaluation stopped early."""
    samples: int
    """Answers per prompt. A prompt counts as the mean of its answers."""
    readings: list[JudgeResult]
    """One result per judge. The judge with the worst verdict decides."""
    disagreement: float | None
    """Share of prompts on which the two judges differ; None with one judge."""
    kinds: list[KindResult] = field(default_factory=list)
    """The harmful prompts by kind, and those of a kind that the repair does not read."""
    thoughts: float = 0.0
    """Share of the answers to harmful prompts that begin with a thought, finished or not."""
    unfinished: float = 0.0
    """Share of these answers that are a thought without an end."""

    @property
    def unusable(self) -> float:
        """Share of the answers that are degenerate or unfinished thoughts."""
        return self.degenerate + self.unfinished

    @property
    def deciding_result(self) -> JudgeResult:
        """The result of the judge that decides."""
        return next(result for result in self.readings if result.judge.name == self.judge)


@dataclass(frozen=True)
class PairedComparison:
    """A boolean property of the same prompts before and after a repair."""

    both: int
    only_before: int
    only_after: int
    neither: int
    p_value: float
    """Exact McNemar test, two-sided."""
    rise: float
    """Share after minus share before."""
    rise_bound: float
    """One-sided 95 % upper bound of the rise."""

    @property
    def pairs(self) -> int:
        """The number of prompts."""
        return self.both + self.only_before + self.only_after + self.neither


@dataclass(frozen=True)
class PairedChange(PairedComparison):
    """A named paired comparison of a report."""

    what: str
    """What is counted, for people: `harmful` (`harmful (JUDGE)` with two judges) or a key of `shortfalls.LIMITED`."""
    limit: float | None
    """The policy's limit for `rise_bound`, if any."""

    def allows(self, rise: float) -> bool:
        """Whether the limit, if any, allows a rise. Shares are quotients of floats: one at the limit is allowed."""
        return self.limit is None or rise <= self.limit + 1e-9


@dataclass(frozen=True)
class Divergence:
    """Divergence of the repaired model from the input model, on the input model's answers to harmless prompts."""

    perplexity_before: float
    perplexity_after: float
    kl: float
    """Mean over tokens of KL(input model || repaired model), in nats."""
    tokens: int
