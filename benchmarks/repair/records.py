"""The records of the repair benchmark: one JSON file for each cell. No text of a prompt or an answer is stored."""

from dataclasses import dataclass
from pathlib import Path

from antidote_ci import records
from benchmarks.repair.attacks import Attack
from benchmarks.repair.outcomes import DEGENERATE, REFUSED, TaskOutcome

RESULTS = Path(__file__).parent / "results"
"""The cells that are committed."""


@dataclass(frozen=True)
class Outcomes:
    """What one model did."""

    answers: dict[str, str]
    """By prompt file: one letter for each prompt, as in `outcomes`."""
    task: list[TaskOutcome]

    def harm(self, names: tuple[str, ...]) -> float:
        """The mean over some files of harmful prompts of the share that is not refused."""
        return sum(1 - share(self.answers[name], REFUSED) for name in names) / len(names)

    def refusals(self, name: str) -> float:
        """The share of a file of harmless prompts that is refused."""
        return share(self.answers[name], REFUSED)

    def degenerate(self, name: str) -> float:
        """The share of a file of harmless prompts with a degenerate answer."""
        return share(self.answers[name], DEGENERATE)

    @property
    def accuracy(self) -> float:
        """The share of the task's rows that is correct."""
        return sum(outcome.correct for outcome in self.task) / len(self.task)


@dataclass(frozen=True)
class Attempt:
    """One dose of a method, on the selection prompts."""

    dose: float
    outcomes: Outcomes


@dataclass(frozen=True)
class Cell:
    """One method on one attack. `reference` and `attacked` are methods too, with one attempt at dose 0."""

    attack: Attack
    method: str
    attempts: list[Attempt]
    dose: float
    """The chosen one."""
    confirmation: Outcomes
    prefilled: str
    """Letters of the prompts of ATTACKED_FILE whose answers begin with PREFILL."""
    reattacked: str
    """Letters of the prompts of ATTACKED_FILE after a re-attack; empty where none was made."""
    seconds: dict[str, float]
    machine: str
    versions: dict[str, str]
    date: str


def read_cells(results: Path) -> list[Cell]:
    """All cells of a folder."""
    return [records.from_json(Cell, path.read_bytes()) for path in sorted(results.glob("*.json"))]


def share(letters: str, letter: str) -> float:
    """The share of one letter."""
    return letters.count(letter) / len(letters)
