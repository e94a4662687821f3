"""The prompts of the benchmark: JSONL files in a folder of the user's, split into disjoint parts.

Every part is a range of the file's rows in a seeded order, so the parts of a file are disjoint. PROTOCOL.md lists the
files and their sources.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from antidote_ci import embedded
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.prompts import drop_duplicates, read_json_lines, require_text
from antidote_ci.records import PromptRow

SEED = 2026

Part = Literal["realignment", "selection", "confirmation"]


@dataclass(frozen=True)
class PromptFile:
    """One file of prompts, and the number of rows of each part."""

    file: str
    realignment: int
    selection: int
    confirmation: int
    field: str = "prompt"
    embedded: bool = False
    """The file belongs to the package."""


HARMFUL = {
    "varied": PromptFile("varied_harmful", 420, 48, 48, embedded=True),
    "advbench": PromptFile("advbench.jsonl", 96, 60, 100),
    "pku": PromptFile("pku_saferlhf_pairs.jsonl", 96, 60, 100),
    "malicious-instruct": PromptFile("malicious_instruct.jsonl", 0, 0, 100),
    "hex-phi": PromptFile("hexphi.jsonl", 0, 0, 110),
    "strongreject": PromptFile("strongreject.jsonl", 0, 0, 104),
}
HARMLESS = {
    "varied-harmless": PromptFile("varied_harmless", 160, 80, 80, embedded=True),
    "everyday": PromptFile("harmless_instructions.jsonl", 48, 100, 300),
    "xstest-safe": PromptFile("xstest_completions_gpt4.jsonl", 0, 0, 250),
}
SELECTED_HARMFUL = ("varied", "advbench", "pku")
"""Files with prompts on which a dose is selected."""
SEEN = ("varied", "advbench")
UNSEEN = ("pku", "malicious-instruct", "hex-phi", "strongreject")
"""Kinds of harmful prompts that a repair reads, and kinds that it does not read."""
ATTACKED_FILE = "malicious-instruct"
"""The prompts of the prefill attack and of the re-attack."""


@dataclass(frozen=True)
class Prompts:
    """Every file, from the data folder or the package."""

    folder: Path

    def harmful(self, name: str, part: Part) -> list[PromptRow]:
        """The rows of one part of a file of harmful prompts."""
        return self._part(HARMFUL[name], part)

    def harmless(self, name: str, part: Part) -> list[PromptRow]:
        """The rows of one part of a file of harmless prompts."""
        return self._part(HARMLESS[name], part)

    def _part(self, prompt_file: PromptFile, part: Part) -> list[PromptRow]:
        counts = {"realignment": prompt_file.realignment, "selection": prompt_file.selection}
        start = {"realignment": 0, "selection": counts["realignment"], "confirmation": sum(counts.values())}[part]
        count = counts.get(part, prompt_file.confirmation)
        path = embedded.prompt_file(prompt_file.file) if prompt_file.embedded else self.folder / prompt_file.file
        rows = _read_rows(path, prompt_file.field)
        if len(rows) < start + count:
            raise ConfigurationError(f"{path} holds {len(rows)} different prompts, {start + count} are needed")
        return list(rows[start : start + count])


@cache
def _read_rows(path: Path, field: str) -> Sequence[PromptRow]:
    """All rows in a seeded order. Of XSTest, only the safe prompts: the types of the others begin with `contrast`."""
    if not path.is_file():
        raise ConfigurationError(f"there is no {path}", hint="benchmarks/repair/PROTOCOL.md names its source")
    rows = [
        PromptRow(
            require_text(fields, field, location, "each line needs it"),
            category=str(fields.get("category", "")),
        )
        for location, fields in read_json_lines(path)
        if not str(fields.get("type", "")).startswith("contrast")
    ]
    rows = drop_duplicates(rows)
    return random.Random(SEED).sample(rows, len(rows))  # noqa: S311 - a reproducible order, no secret
