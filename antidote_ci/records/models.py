"""What is tested, and what is asked of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ModelKind = Literal["full", "adapter", "server"]
"""What was measured: a checkpoint, a LoRA adapter, or (`evaluate` alone) a model that a server answers for."""
FoundBy = Literal["option", "adapter_config.json", "model card"]
"""Who named the reference."""


@dataclass(frozen=True)
class ModelSource:
    """A model as it was pulled: one commit of a Hub repository, or a local folder."""

    id: str
    revision: str | None
    folder: Path
    kind: ModelKind


@dataclass(frozen=True)
class Model:
    """Weights that can run: a full checkpoint, or a LoRA adapter upon one."""

    folder: Path
    adapter: Path | None = None


@dataclass(frozen=True)
class ReportedSource:
    """The tested revision."""

    id: str
    revision: str | None
    kind: ModelKind


@dataclass(frozen=True)
class ReportedReference:
    """The aligned model before the user's fine-tuning, and how it was found."""

    id: str
    revision: str | None
    found_by: FoundBy


@dataclass(frozen=True)
class PromptRow:
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


OnProgress = Callable[[Progress], None]
"""Is told how far a long step has come."""


@dataclass(frozen=True)
class ComputeEnvironment:
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
