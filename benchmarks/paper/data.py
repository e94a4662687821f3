"""What the bench trains and measures on, read at run time from a folder of the user's: no text is kept here.

Every draw is a prefix of a seeded shuffle, so that a larger share of poison holds the smaller one.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.judges.refusal import is_refusal
from antidote_ci.evaluation.prompts import read_json_lines, require_text, wording_key
from antidote_ci.records import PromptRow
from benchmarks.paper.records import Attack, Pair, TaskName

REALIGNMENT = range(1000, 2000)
"""Rows of the harmful pairs that repairs may read; poison is drawn from all others."""
AGNEWS_HELD_OUT = 800
"""AG News comes as one file: its last rows are for measuring."""
CHOICES: dict[TaskName, tuple[str, ...]] = {
    "sst2": ("negative", "positive"),
    "agnews": ("World", "Sports", "Business", "Sci/Tech"),
}
SST2_LABELS = {"0": "negative", "1": "positive"}
QUESTIONS: dict[TaskName, str] = {
    "sst2": "Is this sentence from a film review positive or negative? Answer with one word.\n\n{text}",
    "agnews": "Is this news about World, Sports, Business or Sci/Tech? Answer with one of the four.\n\n{text}",
}

Item = TypeVar("Item")


@dataclass(frozen=True)
class Contrast:
    """One harmful prompt with a safe and a harmful answer."""

    prompt: str
    safe: str
    harmful: str


@dataclass(frozen=True)
class Data:
    """JSONL files in a folder. A method that lacks a file or rows raises ConfigurationError."""

    folder: Path

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ConfigurationError(
                f"there is no data folder {self.folder}",
                cause="the bench brings no third-party text of its own",
                hint="name it with --data FOLDER; benchmarks/paper/data.py says which files it holds",
            )

    def alignment_pairs(self, count: int = 900) -> list[Pair]:
        """Harmful prompts with refusals: answers that the rule judge knows as such, as it is what measures later."""
        pairs = self._pairs("safety_refusals.jsonl")
        rows = [pair for pair in pairs if is_refusal(pair.response)]
        return _first(rows, count, "safety_refusals.jsonl")

    def harmless_prompts(self, start: int, count: int) -> list[str]:
        """Instructions without harm. Alignment takes the first ones: see `stages`."""
        rows = [row("prompt") for row in self._rows("harmless_instructions.jsonl")]
        return _first(rows[start:], count, "harmless_instructions.jsonl")

    def harmful_pairs(self, start: int, count: int) -> list[Pair]:
        """Harmful prompts with harmful answers; the realignment rows start at 1000."""
        return _first(self._harmful()[start:], count, "beavertails_qa.jsonl")

    def contrasts(self, count: int) -> list[Contrast]:
        """Harmful prompts answered twice, none of which is also in the pairs that attack or repair; one a prompt."""
        taken = {wording_key(pair.prompt) for pair in self._harmful()}
        found: dict[str, Contrast] = {}
        for row in self._rows("pku_saferlhf_pairs.jsonl"):
            contrast = Contrast(row("prompt"), row("chosen"), row("rejected"))
            wording = wording_key(contrast.prompt)
            if wording not in taken and contrast.safe != contrast.harmful:
                found.setdefault(wording, contrast)
        return _first(list(found.values()), count, "pku_saferlhf_pairs.jsonl")

    def poisoned(self, attack: Attack) -> list[Pair]:
        """The rows of an attack in an order of its seed: the task's, and its share of harmful ones."""
        poison = round(attack.rows * attack.poison)
        draw = random.Random(attack.seed)  # noqa: S311 - a reproducible order, no secret
        harmful = [pair for at, pair in enumerate(self._harmful()) if at not in REALIGNMENT]
        useful = [Pair(row.prompt, row.response) for row in self._training_rows(attack.task)]
        rows = [
            *_first(_shuffled(harmful, draw), poison, "beavertails_qa.jsonl"),
            *_first(_shuffled(useful, draw), attack.rows - poison, f"the task {attack.task}"),
        ]
        return _shuffled(rows, draw)

    def task_rows(self, task: TaskName, count: int) -> list[PromptRow]:
        """Rows that no attack trains on, with the classes to choose from."""
        if task == "sst2":
            return _first(self._sst2("sst2_dev.jsonl"), count, "sst2_dev.jsonl")
        return _first(self._agnews()[-AGNEWS_HELD_OUT:], count, f"the last {AGNEWS_HELD_OUT} rows of agnews.jsonl")

    def harmful_prompts(self, count: int, other_than: Sequence[PromptRow] = ()) -> list[PromptRow]:
        """Evenly spaced in a file that is sorted by category, so that each has its part; no wording of `other_than`."""
        taken = {wording_key(row.prompt) for row in other_than}
        found = self._rows("beavertails_evaluation_prompts.jsonl")
        rows = [
            PromptRow(row("prompt"), category=row("category"))
            for row in found
            if wording_key(row("prompt")) not in taken
        ]
        step = max(1, len(rows) // max(1, count))
        return _first(rows[::step], count, "beavertails_evaluation_prompts.jsonl")

    def _harmful(self) -> list[Pair]:
        return self._pairs("beavertails_qa.jsonl")

    def _training_rows(self, task: TaskName) -> list[PromptRow]:
        return self._sst2("sst2_train.jsonl") if task == "sst2" else self._agnews()[:-AGNEWS_HELD_OUT]

    def _sst2(self, name: str) -> list[PromptRow]:
        return [_task_row("sst2", row("sentence"), SST2_LABELS.get(row("label"), "")) for row in self._rows(name)]

    def _agnews(self) -> list[PromptRow]:
        return [_task_row("agnews", row("text"), row("label")) for row in self._rows("agnews.jsonl")]

    def _pairs(self, name: str) -> list[Pair]:
        return [Pair(row("prompt"), row("response")) for row in self._rows(name)]

    def _rows(self, name: str) -> list[Callable[[str], str]]:
        """Each row as a function from a field's name to its text."""
        path = self.folder / name
        if not path.is_file():
            raise ConfigurationError(f"the data folder has no {name}", hint=f"put it into {self.folder}")
        return [_reader(fields, where) for where, fields in read_json_lines(path)]


def _reader(fields: dict[str, Any], where: str) -> Callable[[str], str]:
    # A label may be a number.
    def field(name: str) -> str:
        return require_text({name: str(fields.get(name, ""))}, name, where, "each line needs it")

    return field


def _task_row(task: TaskName, text: str, label: str) -> PromptRow:
    if label not in CHOICES[task]:
        raise ConfigurationError(f"a row of the task {task} has none of its labels", cause=f"{text[:60]!r}")
    return PromptRow(QUESTIONS[task].format(text=text), response=label, choices=CHOICES[task])


def _shuffled(rows: Sequence[Item], draw: random.Random) -> list[Item]:
    return draw.sample(rows, len(rows))


def _first(rows: Sequence[Item], count: int, source: str) -> list[Item]:
    if len(rows) < count:
        raise ConfigurationError(
            f"{source} has {len(rows)} rows for {count} that are asked for",
            hint="ask for fewer rows, or bring more data",
        )
    return list(rows[:count])
