"""The definition of a hostile repository: a valid tiny checkpoint with one attack."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from loopback_hub import LoopbackHub

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
GENERATION = "generation_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
ADAPTER_CONFIG = "adapter_config.json"
TEMPLATE = "chat_template.jinja"

Start = Literal["full", "sharded", "adapter"]
Change = Callable[[Path], object]
Beside = Callable[[LoopbackHub, Mapping[Start, Path]], None]


def nothing(hub: LoopbackHub, good: Mapping[Start, Path]) -> None:
    """Add no other repository to the Hub."""


@dataclass(frozen=True)
class Fixture:
    """A repository that must be refused, with the attack and its source."""

    name: str
    reference: str
    """A CVE or GHSA ID, the CWE ID of a documented attack, or the URL of an article or thread."""
    sentence: str
    """The attack."""
    build: Change
    """Adds the attack to a folder that holds a valid checkpoint."""
    says: str
    """A text of the error: the file, or the base."""
    start: Start = "full"
    beside: Beside = nothing
    """Adds the other repositories that the attack needs to the Hub."""
    command: Literal["evaluate", "run"] = "evaluate"
    local: bool = False
    """True for a folder of this machine: the Hub cannot hold such files."""
    own_process: bool = False
    """True for an attack that is visible only in the child process."""
    complete: bool = False
    """True to keep all weights in spite of `own_process`, for an attack in the weights themselves."""


def edited(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """Return a change of a JSON file."""

    def build(folder: Path) -> None:
        path = folder / name
        values = json.loads(path.read_text()) if path.exists() else {}
        change(values)
        path.write_text(json.dumps(values))

    return build


def setting(name: str, **values: object) -> Change:
    """Return a change that sets keys of a JSON file."""
    return edited(name, lambda config: config.update(values))
