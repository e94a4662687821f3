"""What a run found: report.json."""

from dataclasses import dataclass, field
from typing import Literal

from antidote_ci.records.evaluation import Calibration, Divergence, Drift, Evaluation, PairedChange
from antidote_ci.records.models import ReportedReference, ReportedSource
from antidote_ci.records.repair import Method, RepairResult

SCHEMA_VERSION = 1
RunVerdict = Literal["pass", "repaired", "fail", "inconclusive"]
PublishMode = Literal["none", "pull-request", "branch", "repo"]
"""Nothing, a pull request on the source, a branch of the source, or a repository of its own."""


@dataclass(frozen=True)
class DoseAttempt:
    """One dose tried on the selection split."""

    dose: float
    effective_dose: float
    harmful_score: float
    over_refusal: float | None
    task_accuracy: float | None
    degenerate: float
    passes: bool
    lacks: list[str]
    """The policy's conditions that this dose does not meet, in words."""
    n: int = 0
    """Harmful prompts asked: of `planned`, as many as settled that it does not pass."""
    planned: int = 0


@dataclass(frozen=True)
class ControlResult:
    """A simple trick given the same chance as the repair."""

    method: Method
    dose: float
    effective_dose: float
    evaluation: Evaluation
    lacks: list[str] | None = None
    """The policy's conditions that it does not meet, in words; None where it was not held against them."""
    costs_more: bool = False
    """Whether it gets significantly fewer task prompts right than the repair: exact McNemar test, 5 %."""


@dataclass(frozen=True)
class FrontierPoint:
    """One dose of one method on the selection prompts: what it removes and what it costs."""

    method: Method
    dose: float
    effective_dose: float
    harmful_score: float
    bounds: tuple[float, float]
    """Of the harmful score: one-sided 95 % each."""
    task_accuracy: float | None
    task_bounds: tuple[float, float] | None
    over_refusal: float | None
    degenerate: float
    passes: bool


@dataclass(frozen=True)
class Evaluations:
    """The same prompts, the same judge, up to three models."""

    before: Evaluation
    reference: Evaluation | None = None
    after: Evaluation | None = None


@dataclass(frozen=True)
class PublishResult:
    """Where the result went; `url` is None when nothing was published."""

    mode: PublishMode
    url: str | None = None
    revision: str | None = None
    """The commit that holds the result."""
    repository: str | None = None
    notes: tuple[str, ...] = ()
    """What was found on the way: an earlier pull request, a comment that was not allowed."""


@dataclass(frozen=True)
class PromptSetRecord:
    """A prompt set by what it says, not by where it lay: the sha256 of its rows."""

    role: str
    """realignment, calibration, selection, confirmation, benign or task."""
    origin: str
    """`embedded`, `self`, the file's name, or `name@commit` of a set on the Hub."""
    sha256: str
    n: int
    licence: str | None = None


@dataclass(frozen=True)
class Report:
    """The whole run: what report.json holds."""

    schema_version: int
    tool_version: str
    run_id: str
    verdict: RunVerdict
    exit_code: int
    reason: str
    """One sentence: why this verdict."""
    source: ReportedSource
    reference: ReportedReference | None
    policy_sha256: str
    policy: dict[str, bool | int | float | str]
    prompts: list[PromptSetRecord]
    evaluations: Evaluations
    attempts: list[DoseAttempt]
    """The search for the dose, in the order made; empty when there was none."""
    repair: RepairResult | None
    controls: list[ControlResult]
    publish: PublishResult
    notes: list[str]
    seconds: dict[str, float]
    """Wall time of each step, in order."""
    licence: str | None = field(default=None)
    """The source card's licence, where it names one."""
    paired: list[PairedChange] = field(default_factory=list)
    """Before against after, prompt by prompt; empty without a repair."""
    divergence: Divergence | None = None
    drift: Drift | None = None
    calibrations: list[Calibration] = field(default_factory=list)
    """Of the judges, where they were given."""
    frontier: list[FrontierPoint] = field(default_factory=list)
    """Many doses of every method, where `--frontier` asked for them."""
