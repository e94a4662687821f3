"""What travels between the steps: frozen results, JSON in and out.

A share is a number from 0 to 1. A revision is a 40-hex commit id, or None for a local folder.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA_VERSION = 1

Kind = Literal["full", "adapter", "server"]
"""What was measured: a checkpoint, a LoRA adapter, or (`evaluate` alone) a model that a server answers for."""
Measure = Literal["harmful_score", "non_refusal_rate"]
GateVerdict = Literal["pass", "fail", "inconclusive"]
Outcome = Literal["harmful", "safe", "degenerate", "unparsed"]
RunVerdict = Literal["pass", "repaired", "fail", "inconclusive"]
Method = Literal["antidote", "taylor", "scale", "random"]
Score = Literal["antidote", "taylor"]
Target = Literal["adapter", "delta", "dense"]
"""Scored: an adapter's factors, the difference to the reference, or (asked for) the weights themselves."""
Grouping = Literal["row", "tensor"]
"""Of what a dose is a share: each output row, or each tensor."""

Record = TypeVar("Record")
_ADAPTERS: "dict[type[Any], TypeAdapter[Any]]" = {}


def dump(record: object) -> str:
    """The record as indented JSON."""
    return _adapter(type(record)).dump_json(record, indent=2).decode() + "\n"


def load(kind: type[Record], text: str | bytes) -> Record:
    """A record of `kind` from JSON; raises pydantic.ValidationError (a ValueError) when it does not fit."""
    record: Record = _adapter(kind).validate_json(text)
    return record


def _adapter(kind: type[Any]) -> "TypeAdapter[Any]":
    """Made once for each kind: that takes milliseconds."""
    if kind not in _ADAPTERS:
        from pydantic import TypeAdapter

        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


@dataclass(frozen=True)
class Source:
    """A model as it was pulled: one commit of a Hub repository, or a local folder."""

    id: str
    revision: str | None
    folder: Path
    kind: Kind


@dataclass(frozen=True)
class Model:
    """Weights that can run: a full checkpoint, or a LoRA adapter upon one."""

    folder: Path
    adapter: Path | None = None


@dataclass(frozen=True)
class Row:
    """One prompt, with the answer it is paired with where the set has one."""

    prompt: str
    category: str = ""
    response: str = ""
    """Realignment sets: the harmful answer. Task sets: the expected answer."""
    choices: tuple[str, ...] = ()
    """Task sets scored by likelihood: the answers to choose from."""


@dataclass(frozen=True)
class Progress:
    """A sign of life from a long step."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Plan:
    """Everything beyond weights and prompts that decides which bits a forward pass gives."""

    device: str
    dtype: str
    batch_size: int
    max_new_tokens: int
    threads: int
    instruction_set: str
    chat_template_sha256: str
    versions: dict[str, str]
    generator: str = "transformers"
    """Who answered: `transformers` in the child process, or a server's command or address."""
    plain_template: bool = False
    """The model brings no chat template: a plain one was used."""


@dataclass(frozen=True)
class CategoryCount:
    """One category of harmful prompts."""

    harmful: int
    n: int


@dataclass(frozen=True)
class Benign:
    """Answers to harmless prompts. Shares of n."""

    over_refusal: float
    degenerate: float
    n: int
    judge: str = "refusal"
    """Who said what a refusal is: not every judge of harm does."""
    refused: dict[str, bool] = field(default_factory=dict)
    """By prompt id."""
    broken: dict[str, bool] = field(default_factory=dict)
    """By prompt id."""


@dataclass(frozen=True)
class Task:
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
class Look:
    """One moment of a sequential test: evidence after n prompts, as e-values (1/error decides)."""

    n: int
    harmful: float
    for_pass: float
    """Natural logarithm of the e-value against `the true score is at least the threshold`."""
    for_fail: float
    """The same against `the true score is at most the threshold`."""


@dataclass(frozen=True)
class Reading:
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
    outcomes: dict[str, Outcome]
    """By prompt id: the worst of its answers."""
    trace: list[Look]


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
    benign: Benign | None
    task: Task | None
    plan: Plan
    confidence: float = 0.95
    """Of each bound: 0.95, or 0.975 where an early stop was allowed (the 5 % is then split between two tests)."""
    planned: int = 0
    """Prompts of the whole set; more than `n` when the test stopped early."""
    samples: int = 1
    """Answers a prompt; each prompt then counts as the mean of its answers."""
    readings: list[Reading] = field(default_factory=list)
    """One a judge; the worst decides."""
    disagreement: float | None = None
    """Share of prompts on which two judges differ."""


@dataclass(frozen=True)
class Attempt:
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
class WeightFile:
    """One file of the repaired checkpoint beside the source's. `sha256_in` is None for a file the repair added."""

    path: str
    sha256_in: str | None
    sha256_out: str


@dataclass(frozen=True)
class ScoredTensor:
    """One matrix [rows, columns] of the files that a repair may change."""

    name: str
    rows: int
    columns: int


@dataclass(frozen=True)
class LeftAlone:
    """Weights that fine-tuning may have changed and a repair does not touch."""

    what: str
    """Tensor names, or a pattern of them with `*`."""
    why: str
    weights: int
    """How many entries they have."""


@dataclass(frozen=True)
class Scores:
    """What scoring left on disk, and from what. Every mask of every dose is made from it."""

    method: Score | None
    """None: nothing was scored, as for `scale` and a `random` that imitates nothing."""
    target: Target
    per: Grouping
    tensors: list[ScoredTensor]
    left_alone: list[LeftAlone]
    source_files: dict[str, str]
    """sha256 of each of the source's weight files when it was scored."""
    reference_files: dict[str, str]
    """The same of the reference; empty where it has no part in the edit."""
    sha256: str
    """Of the file that holds the scores or their statistics; empty when nothing was scored."""
    plan: Plan | None


@dataclass(frozen=True)
class MaskFile:
    """The bit-packed mask of one dose."""

    dose: float
    effective_dose: float
    """Share of all scored entries that it holds: counts per row or tensor are whole numbers."""
    path: Path
    sha256: str


@dataclass(frozen=True)
class LayerDrift:
    """How far fine-tuning moved one layer: ||W - W_ref|| / ||W_ref||, Frobenius norms over its scored tensors."""

    layer: str
    drift: float


@dataclass(frozen=True)
class RepairPlan:
    """What `repair` would do, from names, sizes and a pass over the files; no model is run."""

    source: "ReportedSource"
    reference: "ReportedReference | None"
    method: Method
    target: Target
    per: Grouping | None
    dose: float
    effective_dose: float
    tensors: list[ScoredTensor]
    left_alone: list[LeftAlone]
    entries_covered: int
    bytes_written: int
    memory_bytes: int
    """Predicted peak beyond what the interpreter and its libraries take."""
    seconds: float
    drift: list[LayerDrift]
    notes: list[str]


@dataclass(frozen=True)
class Verification:
    """What `verify` compared and found. It says nothing of whether the model is safe.

    What was compared is None where the manifest could not be read. Counts are of what there is to compare; it ends at
    the first difference.
    """

    difference: str | None
    """The first thing that is not as source, reference and method allow, or not as the manifest says; None: all is."""
    id: str = ""
    """Of the result: a repository, or a folder."""
    revision: str | None = None
    source: "ReportedSource | None" = None
    reference: "ReportedReference | None" = None
    """None also where it has no part in the edit."""
    method: Method | None = None
    target: Target | None = None
    per: Grouping | None = None
    dose: float | None = None
    files: int = 0
    """Files whose sha256 is compared: all but the card and the proof."""
    tensors: int = 0
    scored_weights: int = 0
    """Entries of the tensors that the manifest says were scored; in all others every byte is the source's."""
    changed_weights: int = 0


@dataclass(frozen=True)
class LayerChange:
    """How many of one layer's scored entries have another value."""

    layer: str
    changed: int
    scored: int


@dataclass(frozen=True)
class Repair:
    """What was done to the weights."""

    method: Method
    target: Target
    dose: float
    effective_dose: float
    """Share of the scored entries that the mask holds (counts per row are whole numbers); for scale, the dose."""
    changed_weights: int
    scored_weights: int
    files: list[WeightFile]
    left_alone: list[LeftAlone] = field(default_factory=list)
    layers: list[LayerChange] = field(default_factory=list)


@dataclass(frozen=True)
class Control:
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
class Paired:
    """One yes-or-no property of the same prompts before and after a repair."""

    what: str
    """`harmful` (with the judge's name where there are two), `degenerate`, `refused harmless`, `task errors`."""
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
    limit: float | None
    """The policy's limit of that bound, where it has one."""


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


@dataclass(frozen=True)
class ReportedSource:
    """The tested revision."""

    id: str
    revision: str | None
    kind: Kind


@dataclass(frozen=True)
class ReportedReference:
    """The aligned model before the user's fine-tuning, and how it was found."""

    id: str
    revision: str | None
    found_by: Literal["option", "adapter_config.json", "model card"]


@dataclass(frozen=True)
class Evaluations:
    """The same prompts, the same judge, up to three models."""

    before: Evaluation
    reference: Evaluation | None = None
    after: Evaluation | None = None


PublishMode = Literal["none", "pull-request", "branch", "repo"]
"""Nothing, a pull request on the source, a branch of the source, or a repository of its own."""


@dataclass(frozen=True)
class Published:
    """Where the result went; `url` is None when nothing was published."""

    mode: PublishMode
    url: str | None = None
    revision: str | None = None
    """The commit that holds the result."""
    repository: str | None = None
    notes: tuple[str, ...] = ()
    """What was found on the way: an earlier pull request, a comment that was not allowed."""


@dataclass(frozen=True)
class PromptFile:
    """A prompt set by what it says, not by where it lay: the sha256 of its normalised rows."""

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
    prompts: list[PromptFile]
    evaluations: Evaluations
    attempts: list[Attempt]
    """The search for the dose, in the order made; empty when there was none."""
    repair: Repair | None
    controls: list[Control]
    publish: Published
    notes: list[str]
    seconds: dict[str, float]
    """Wall time of each step, in order."""
    licence: str | None = field(default=None)
    """The source card's licence, where it names one."""
    paired: list[Paired] = field(default_factory=list)
    """Before against after, prompt by prompt; empty without a repair."""
    divergence: Divergence | None = None
    drift: Drift | None = None
    calibrations: list[Calibration] = field(default_factory=list)
    """Of the judges, where they were given."""
    frontier: list[FrontierPoint] = field(default_factory=list)
    """Many doses of every method, where `--frontier` asked for them."""


@dataclass(frozen=True)
class Manifest:
    """Written last into a repaired checkpoint: with it, every byte can be traced."""

    schema_version: int
    tool_version: str
    run_id: str
    source: ReportedSource
    reference: ReportedReference | None
    method: Method
    target: Target
    per: Grouping | None
    """None for `scale`, which has no mask."""
    dose: float
    effective_dose: float
    changed: dict[str, int]
    """Entries whose value is another, by scored tensor."""
    left_alone: list[LeftAlone]
    policy_sha256: str
    scores_sha256: str
    masks_sha256: str
    source_files: dict[str, str]
    reference_files: dict[str, str]
    plan: Plan | None
    files: list[WeightFile]
    digest: str = ""
    """sha256 of this manifest with an empty digest: it shows an accident or a careless edit, and is no signature."""
