"""The report of a run, as stored in report.json."""

from dataclasses import dataclass, field
from typing import Literal

from antidote_ci.records.evaluation import (
    Calibration,
    Divergence,
    Evaluation,
    GateVerdict,
    JudgeIdentity,
    KindResult,
    PairedChange,
)
from antidote_ci.records.models import ReportedReference, ReportedSource
from antidote_ci.records.repair import Method, RepairResult

SCHEMA_VERSION = 1
RunVerdict = Literal["pass", "repaired", "fail", "inconclusive"]
DestinationMode = Literal["pull-request", "branch", "repo"]
"""Where weights are published: a pull request on the source, a branch of the source, or a new repository."""
PublishMode = Literal["none", "report", DestinationMode]
"""Nothing, the verdict alone, or weights."""
NOT_PASSING_FOLDER = "model-not-passing"
"""Folder of repaired weights that did not pass, in the output folder of a run with `--keep-failed`."""


@dataclass(frozen=True)
class DoseAttempt:
    """One dose of the search, evaluated on the selection split."""

    dose: float
    effective_dose: float
    harmful_score: float
    over_refusal: float | None
    task_accuracy: float | None
    degenerate: float
    passes: bool
    lacks: list[str]
    """The policy's conditions that this dose does not meet."""
    n: int = 0
    """Harmful prompts answered; fewer than `planned` when the dose could no longer pass."""
    planned: int = 0
    expected_misses: list[str] = field(default_factory=list)
    """Of a dose that passes: the limits whose bound is expected to be too wide on the confirmation prompts."""
    excess: float = 0.0
    """How far the measured values are above their limits in total, as shares; 0 for a dose that passes."""


@dataclass(frozen=True)
class ControlResult:
    """A simple baseline (`scale` or `random`), evaluated like the repair."""

    method: Method
    dose: float
    effective_dose: float
    evaluation: Evaluation
    lacks: list[str] | None = None
    """The policy's conditions that it does not meet; None when they were not checked."""
    costs_more: bool = False
    """Whether its task accuracy is significantly lower than the repair's: exact McNemar test, 5 %."""


@dataclass(frozen=True)
class FrontierPoint:
    """One dose of one method, evaluated on the selection split."""

    method: Method
    dose: float
    effective_dose: float
    harmful_score: float
    bounds: tuple[float, float]
    """One-sided 95 % bounds of the harmful score."""
    task_accuracy: float | None
    task_bounds: tuple[float, float] | None
    over_refusal: float | None
    degenerate: float
    passes: bool


@dataclass(frozen=True)
class Evaluations:
    """Up to three models evaluated with the same prompts and judges."""

    before: Evaluation
    reference: Evaluation | None = None
    after: Evaluation | None = None


@dataclass(frozen=True)
class PublishResult:
    """Where the result was published; `url` is None when nothing was published."""

    mode: PublishMode
    url: str | None = None
    revision: str | None = None
    """The commit that holds the result."""
    repository: str | None = None
    notes: tuple[str, ...] = ()
    """Remarks, such as an earlier pull request or a comment that was not allowed."""

    @property
    def has_weights(self) -> bool:
        """Whether repaired weights are published there, and not the verdict alone."""
        return self.url is not None and self.mode != "report"


@dataclass(frozen=True)
class PromptSetRecord:
    """A prompt set, identified by the sha256 of its rows."""

    role: str
    """realignment, calibration, selection, confirmation, unseen, benign or task."""
    origin: str
    """`embedded`, `varied`, `self`, a file name, or `name@commit` of a set on the Hub."""
    sha256: str
    n: int
    licence: str | None = None


@dataclass(frozen=True)
class ComparedModel:
    """The model that the verdict of a report is about, as a comparison of reports shows it."""

    source: ReportedSource
    repaired: bool
    """Whether it is the repair of `source`, which passed."""
    run_id: str
    written_at: str | None
    verdict: RunVerdict
    judge: JudgeIdentity
    """The judge that decides."""
    harmful_score: float
    corrected_score: float | None
    bounds: tuple[float, float]
    confidence: float
    threshold: float
    n: int
    planned: int
    degenerate: float
    over_refusal: float | None
    task_accuracy: float | None
    categories: list[KindResult]
    """Bounds as those of `kinds`."""
    kinds: list[KindResult]

    @property
    def bounded_score(self) -> float:
        """The score that the bounds belong to."""
        return self.harmful_score if self.corrected_score is None else self.corrected_score


@dataclass(frozen=True)
class Comparison:
    """The models of two reports, paired by prompt where prompts, judges and settings are the same."""

    first: ComparedModel
    second: ComparedModel
    judges: list[JudgeIdentity]
    """The judges that evaluated both; the harmful answers are paired by each of them."""
    changes: list[PairedChange]
    """`before` is the first model and `after` the second."""
    newly_harmful: list[str]
    """Ids of paired prompts that only the second model answers harmfully, by the judge that decides."""
    no_longer_harmful: list[str]
    """Ids of those that only the first model does."""
    notes: list[str]
    """Which prompts are paired, and why others are not."""
    verdict: GateVerdict | None = None
    """On the rise of the harmful score under `gate.regression`; None without this limit."""
    reason: str = ""
    """Why `verdict` is not `pass`."""


@dataclass(frozen=True)
class HistoryEntry:
    """The tested revision of one report, in the history of its model."""

    model: ComparedModel
    repaired_score: float | None
    """Harmful score of the repair that passed; None without one."""
    change: PairedChange | None
    """Harmful answers paired with those of the report before; None for the first one and without common prompts."""
    page: str | None = None
    """Path of the report's page, relative to that of the history."""


@dataclass(frozen=True)
class History:
    """The reports of one model or of several, in the order in which they were given."""

    entries: list[HistoryEntry]
    failures: dict[str, str] = field(default_factory=dict)
    """Models that could not be evaluated -> why."""


@dataclass(frozen=True)
class Report:
    """The report of a run."""

    schema_version: int
    tool_version: str
    run_id: str
    verdict: RunVerdict
    exit_code: int
    reason: str
    """One sentence: the reason for the verdict."""
    source: ReportedSource
    reference: ReportedReference | None
    policy_sha256: str
    policy: dict[str, bool | int | float | str]
    prompts: list[PromptSetRecord]
    evaluations: Evaluations
    attempts: list[DoseAttempt]
    """The dose search in its order; empty without one."""
    repair: RepairResult | None
    controls: list[ControlResult]
    publish: PublishResult
    notes: list[str]
    seconds: dict[str, float]
    """Wall time of each step, in order."""
    licence: str | None = None
    """The licence that the source's card gives."""
    paired: list[PairedChange] = field(default_factory=list)
    """Paired comparisons of before and after; empty without a repair."""
    divergence: Divergence | None = None
    calibrations: list[Calibration] = field(default_factory=list)
    frontier: list[FrontierPoint] = field(default_factory=list)
    """Doses of every method; empty without `--frontier`."""
    keeps_failed_weights: bool = False
    """Whether NOT_PASSING_FOLDER, next to this report or around it, holds the repaired weights, which did not pass."""
    protections: list[str] = field(default_factory=list)
    """What confined the processes that ran the models: `sandbox.confinement`. Empty when no model ran here."""
    written_at: str | None = None
    """Time in UTC, as in 2026-12-01T09:15:00Z; None in reports of earlier versions."""
    baseline: Comparison | None = None
    """The report that `gate.baseline` names, compared with this one."""
