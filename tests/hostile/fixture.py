"""One hostile repository: a good tiny checkpoint with one sin."""

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
    """The Hub holds no other repository for a fixture."""


@dataclass(frozen=True)
class Fixture:
    """A repository that must be refused, why somebody would make it, and who showed that it can be done."""

    name: str
    reference: str
    """A CVE or GHSA id, the CWE id of an attack that is only documented, or the address of an article or a thread."""
    sentence: str
    """What it tries."""
    build: Change
    """Puts the sin into a folder that holds a good checkpoint."""
    says: str
    """What the refusal must name: the file, or the base."""
    start: Start = "full"
    beside: Beside = nothing
    """Puts what else the Hub must hold there, made from good checkpoints."""
    command: Literal["evaluate", "run"] = "evaluate"
    local: bool = False
    """A repository of the Hub cannot hold it: it is a folder of this machine."""
    own_process: bool = False
    """It may misbehave, and only in the child: templates."""


def edited(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """A JSON file changed in place."""

    def build(folder: Path) -> None:
        path = folder / name
        values = json.loads(path.read_text()) if path.exists() else {}
        change(values)
        path.write_text(json.dumps(values))

    return build


def setting(name: str, **values: object) -> Change:
    """A JSON file with these keys set."""
    return edited(name, lambda found: found.update(values))
