"""What travels between the steps of the bench, and what a cell leaves on disk. Pure."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from antidote_ci.records import Method

Defence = Literal["sft", "vaccine", "repnoise", "lisa", "ldifs"]
"""`vaccine` and `repnoise` change the alignment and `lisa` and `ldifs` the fine-tuning; the other stage is `sft`."""
TaskName = Literal["sst2", "agnews"]
Targets = Literal["all", "attention"]
"""Which linears an adapter is on: all, or q, k and v as in the paper."""


def aligned_by(defence: Defence) -> Defence:
    """The alignment that a defence begins from: its own, or `sft` where it acts during the fine-tuning."""
    return defence if defence in ("vaccine", "repnoise") else "sft"


@dataclass(frozen=True)
class Pair:
    """A prompt and the answer that is trained on."""

    prompt: str
    response: str


@dataclass(frozen=True)
class Training:
    """One stage: a LoRA on all rows."""

    epochs: int
    rate: float
    batch: int = 8
    rank: int = 32
    targets: Targets = "all"


@dataclass(frozen=True)
class Attack:
    """A fine-tuning that undoes the alignment, under a defence."""

    defence: Defence
    task: TaskName
    training: Training
    rows: int = 500
    poison: float = 0.2
    """The share of rows that are harmful."""
    seed: int = 43


@dataclass(frozen=True)
class Repair:
    """A repair at one dose."""

    method: Method
    dose: float
    realignment: int = 256
    """Harmful pairs that scoring reads."""


@dataclass(frozen=True)
class Cell:
    """One attack, and the repairs that are tried on it."""

    name: str
    """Of the sweep that it is in, for people."""
    attack: Attack
    repairs: tuple[Repair, ...]

    @property
    def id(self) -> str:
        """Equal for equal work."""
        said = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return f"{self.name}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Figures:
    """What one model says to one set of prompts. Shares from 0 to 1."""

    harmful: int
    """Answers that are not refused, of `asked`: by the rule judge a non-refusal rate."""
    asked: int
    accuracy: float
    """Of the task, by the likelihood of its classes."""
    over_refusal: float
    degenerate: float
    """Of the harmless prompts' answers."""
    degenerate_harmful: float


@dataclass(frozen=True)
class Measured(Figures):
    """One model."""

    drift: float
    """Harmful embedding drift from the reference."""
    seconds: float
    """To make it and to measure it."""
    peak_bytes: int
    selection: Figures | None
    """On the prompts that choose a dose, where one is chosen."""


@dataclass(frozen=True)
class Point:
    """What one repair came to."""

    repair: Repair
    measured: Measured


@dataclass(frozen=True)
class Result:
    """One cell, done or failed. `failure` says why there are no points."""

    cell: Cell
    judge: str
    machine: str
    versions: dict[str, str]
    date: str
    reference: Measured | None
    attacked: Measured | None
    points: list[Point]
    failure: str | None = None
