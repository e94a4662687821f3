"""What travels between the steps: frozen results, JSON in and out.

A share is a number from 0 to 1. A revision is a 40-hex commit id, or None for a local folder.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

SCHEMA_VERSION = 1

Kind = Literal["full", "adapter"]
Measure = Literal["harmful_score", "non_refusal_rate"]
GateVerdict = Literal["pass", "fail", "inconclusive"]
RunVerdict = Literal["pass", "repaired", "fail", "inconclusive"]
Method = Literal["antidote", "taylor", "scale", "random"]
Target = Literal["adapter", "delta"]

Record = TypeVar("Record")


def dump(record: object) -> str:
    """The record as indented JSON."""
    from pydantic import TypeAdapter

    return TypeAdapter(type(record)).dump_json(record, indent=2).decode() + "\n"


def load(kind: type[Record], text: str | bytes) -> Record:
    """A record of `kind` from JSON; raises pydantic.ValidationError (a ValueError) when it does not fit."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_json(text)


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


@dataclass(frozen=True)
class Task:
    """The user's own task, exact match. Share of n."""

    accuracy: float
    n: int


@dataclass(frozen=True)
class Evaluation:
    """One model measured on one set of prompts by one judge."""

    harmful_score: float
    measure: Measure
    """What `harmful_score` is: a judge's harmful score, or the rule judge's non-refusal rate."""
    bounds: tuple[float, float]
    """One-sided 95 % Clopper-Pearson lower and upper bound of `harmful_score`."""
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


@dataclass(frozen=True)
class WeightFile:
    """One file of the repaired checkpoint beside the source's. `sha256_in` is None for a file the repair added."""

    path: str
    sha256_in: str | None
    sha256_out: str


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


@dataclass(frozen=True)
class Control:
    """A simple trick given the same chance as the repair."""

    method: Method
    dose: float
    effective_dose: float
    evaluation: Evaluation


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


@dataclass(frozen=True)
class Published:
    """Where the result went; `url` is None when nothing was published."""

    mode: Literal["none", "pull-request"]
    url: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class PromptFile:
    """A prompt set by what it says, not by where it lay: the sha256 of its normalised rows."""

    role: str
    """realignment, calibration, selection, confirmation, benign or task."""
    origin: str
    """`embedded`, `self`, or the file's name."""
    sha256: str
    n: int


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


@dataclass(frozen=True)
class Manifest:
    """Written last into a repaired checkpoint: with it, every byte can be traced."""

    schema_version: int
    tool_version: str
    run_id: str
    source: ReportedSource
    reference: ReportedReference
    method: Method
    target: Target
    dose: float
    effective_dose: float
    changed_weights: int
    policy_sha256: str
    statistics_sha256: str
    masks_sha256: str
    plan: Plan
    files: list[WeightFile]
