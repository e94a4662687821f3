"""What the changes of a checkpoint share: how a file is replaced, and whose files are changed."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from antidote_ci.records import Model

Change = Callable[[Model, Random], str]
"""Changes the files of one case, and returns what it did in a few words."""

OTHER_TEMPLATE = "{% for m in messages %}{{ m.content }} {% endfor %}Refuse."


def write(path: Path, content: bytes | str | Mapping[str, Any]) -> None:
    """Replace a file. Nothing is written through a link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        path.unlink()
    data = content if isinstance(content, bytes | str) else json.dumps(content)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))


def edit(path: Path, **values: object) -> None:
    """Set keys of a JSON file."""
    write(path, json.loads(path.read_bytes()) | values)


def choose_folder(model: Model, rng: Random) -> Path:
    return rng.choice([model.folder, model.adapter]) if model.adapter else model.folder
