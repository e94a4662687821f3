"""Models, prompts, progress, and the environment that answers are computed in."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form ORG/NAME. The path of a local folder can have it, too."""
    return _HUB_ID.fullmatch(name) is not None


ModelKind = Literal["full", "adapter", "server"]
"""A full checkpoint, a LoRA adapter, or (`evaluate` only) a model behind a server."""
FoundBy = Literal["option", "adapter_config.json", "model card"]
"""Where the reference is named."""


@dataclass(frozen=True)
class WeightEdit:
    """A repair that is applied to a model in memory: w + m (w_ref - w) on some of its tensors, m from 0 to 1.

    The entries of m are those of a mask, or all equal the dose.
    """

    tensors: tuple[str, ...]
    """The names of the scored tensors."""
    reference: Path | None
    """The folder of w_ref; None when it is zero."""
    dose: float
    masks: Path | None = None
    """The folder of the masks of all doses, so that the same process can load each of them; None without a mask."""
    mask: str = ""
    """The file of the mask in this folder."""


@dataclass(frozen=True)
class Model:
    """Weights to load: a full checkpoint, with a LoRA adapter if any, and with an edit if it is a repair on trial.

    A checkpoint that a framework opens reaches a child as a `Model`, never as a path, because the sandbox checks every
    model of a request first. Of a path, a child reads only the bytes.
    """

    folder: Path
    adapter: Path | None = None
    edit: WeightEdit | None = None

    def require_unedited(self) -> None:
        """Raise ValueError for a model with an edit, which `load_edited_model` alone applies."""
        if self.edit is not None:
            raise ValueError(f"the edit of {self.folder.name} would be ignored")


@dataclass(frozen=True)
class ReportedSource:
    """The tested revision."""

    id: str
    revision: str | None
    kind: ModelKind


@dataclass(frozen=True)
class ReportedReference:
    """The aligned model before the user's fine-tuning."""

    id: str
    revision: str | None
    found_by: FoundBy


@dataclass(frozen=True)
class PromptRow:
    """One prompt of a set, with its answer if the set has answers."""

    prompt: str
    category: str = ""
    response: str = ""
    """In realignment sets the harmful answer, in task sets the expected answer."""
    choices: tuple[str, ...] = ()
    """In task sets scored by likelihood, the possible answers."""


Scalar = bool | int | float | str


@dataclass(frozen=True)
class ChatSettings:
    """How every prompt is put to every model of a run, so that all are measured and repaired in the same mode."""

    system_prompt: str | None = None
    template_arguments: dict[str, Scalar] = field(default_factory=dict)
    """Arguments of the chat template, such as `enable_thinking`."""


@dataclass(frozen=True)
class Progress:
    """A progress update of a long step."""

    what: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]


TemplateEffect = Literal["no effect", "adds text", "replaces the default", "changes other text", "raises an error"]
"""What an addition to a conversation does to the rest of its text."""
ThoughtMode = Literal["none", "off", "possible", "open"]
"""Whether an answer can begin with a thought: the template has none, the prompt ends with a finished one, the model
begins one itself, or the prompt begins it."""


@dataclass(frozen=True)
class TemplateEffects:
    """What a chat template adds to a prompt, and what it does with what a measured prompt does not have."""

    added_characters: int
    """Before the first message, without a system message and special tokens: the default system message, if any."""
    prints_date: bool
    system_message: TemplateEffect
    tools: TemplateEffect
    further_turns: TemplateEffect
    generation_prompt: TemplateEffect
    thoughts: ThoughtMode = "none"


@dataclass(frozen=True)
class ComputeEnvironment:
    """Everything except weights and prompts that determines the bits of a forward pass."""

    device: str
    dtype: str
    batch_size: int
    max_new_tokens: int
    threads: int
    instruction_set: str
    chat_template_sha256: str
    versions: dict[str, str]
    generator: str = "transformers"
    """`transformers` (in the child process), or a server's command or address."""
    plain_template: bool = False
    """Whether a plain chat template was used because the model has none."""
    template: TemplateEffects | None = None
    """None when it was not examined, as for a server."""
    gpu: str = ""
    """Name, compute capability and version of CUDA or ROCm; empty without a GPU and for a server."""
