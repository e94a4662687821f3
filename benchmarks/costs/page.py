"""The results as Markdown. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.costs.forecasts import Forecast
from benchmarks.costs.machines import MACHINES, Correction, is_off, place
from benchmarks.costs.processes import Memory

OPENING = """\
# Memory, disk and time

Measured by `make bench-costs` on two cores with bfloat16 instructions and 24 GiB, without a GPU: SmolLM2-135M-Instruct
and copies of Qwen2.5-Coder-0.5B-Instruct and -1.5B-Instruct, fine-tuned with harmful rows; 240 harmful, 120 harmless
and 120 task prompts, 48 new tokens.

Peak memory is that of all processes of the command: resident pages (PSS), and in brackets those of them that cannot be
dropped: anonymous and shared memory. A command that generates answers needs its mapped weights resident; a repair reads
each once. Time is the wall time, and in brackets the processor time divided by the cores: other work on the machine
lengthens only the former, so the latter is compared with the estimate. Disk is what the command holds in its output
folder, its cache and its temporary files, without the model and its reference. After each: the measured value divided
by the estimate of the cost model, **bold** where it is off by more than 1.5.
The estimate of disk leaves out the logits that `run` keeps in TMPDIR while it compares the repair with its source: two
bytes for each of at most 2,048 tokens and each entry of the vocabulary, which is 0.6 GB for 152,000 entries."""
EXTRAPOLATION = """\
## Larger models

The estimates of the cost model for checkpoints of these shapes, times the measured ratio of the largest model of the
same kind above. None of these runs was made. Time includes the pull at 100 MB a second. The rates of a GPU are reports
of others: 4e12 multiplications of weights a second while it generates, 2e13 while it scores. A hosted runner computes
in float32, because its processors have no bfloat16. `streams`: the weights do not fit, and are read block by block."""


@dataclass(frozen=True)
class Cell:
    """One measured command."""

    name: str
    command: str
    is_adapter: bool
    weights: int
    exit_code: int
    seconds: float
    processor_seconds: float
    cores: int
    memory: Memory
    disk: int
    steps: dict[str, float]
    """Seconds of each step, of a command that writes a report."""

    @property
    def busy_seconds(self) -> float:
        """The time that the command needs on these cores when nothing else runs and all of them compute."""
        return self.processor_seconds / self.cores


@dataclass(frozen=True)
class Comparison:
    """A measured command beside its estimate."""

    cell: Cell
    forecast: Forecast

    def ratios(self) -> dict[str, float]:
        """Measured / estimated."""
        cell, forecast = self.cell, self.forecast
        needed = cell.memory.resident if forecast.running_memory else cell.memory.private
        return {
            "memory": needed / forecast.memory,
            "disk": cell.disk / forecast.disk if forecast.disk else 0.0,
            "seconds": cell.busy_seconds / forecast.seconds,
        }


def write_page(measured: Sequence[Comparison], forecasts: Mapping[tuple[str, bool, str], Forecast]) -> str:
    """The page. `forecasts` by the name of the size, whether it is an adapter, and the command."""
    ordered = sorted(measured, key=lambda comparison: (comparison.cell.weights, comparison.cell.name))
    head = ("model", "weights", "command", "exit code", "time", "peak memory", "disk")
    parts = [OPENING, _table(head, map(_row, ordered)), EXTRAPOLATION]
    for machine in MACHINES:
        rows = (
            (size, "adapter" if is_adapter else "merged", command, place(estimate, machine, correction))
            for (size, is_adapter, command), estimate in forecasts.items()
            for correction in [find_correction(measured, command, is_adapter=is_adapter)]
        )
        parts += [f"**{machine.name}**", _matrix(rows)]
    return "\n\n".join(parts) + "\n"


def find_correction(measured: Sequence[Comparison], command: str, *, is_adapter: bool) -> Correction:
    """Of the largest measured model of this kind."""
    same = [
        comparison
        for comparison in measured
        if comparison.cell.command == command and comparison.cell.is_adapter == is_adapter
    ]
    if not same:
        return Correction()
    ratios = max(same, key=lambda comparison: comparison.cell.weights).ratios()
    return Correction(**{name: value for name, value in ratios.items() if value > 0})


def _row(comparison: Comparison) -> tuple[str, ...]:
    cell, ratios = comparison.cell, comparison.ratios()

    def mark(name: str) -> str:
        text = f"{ratios[name]:.2f}"
        return f"**{text}**" if is_off(ratios[name]) else text

    memory = f"{cell.memory.resident / 1e9:.1f} GB ({cell.memory.private / 1e9:.1f})"
    disk = f"{cell.disk / 1e9:.1f} GB" + (f"; {mark('disk')}" if comparison.forecast.disk else "")
    return (
        f"{cell.name}, {'adapter' if cell.is_adapter else 'merged'}",
        f"{cell.weights / 1e9:.2f} billion",
        f"`{cell.command}`",
        str(cell.exit_code),
        f"{cell.seconds:.0f} s ({cell.busy_seconds:.0f}); {mark('seconds')}",
        f"{memory}; {mark('memory')}",
        disk,
    )


def _matrix(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """One line for each size and kind, one column for each command."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for size, kind, command, text in rows:
        lines.setdefault((size, kind), {})[command] = text
    commands = list(next(iter(lines.values())))
    body = ((f"{size}, {kind}", *(texts[command] for command in commands)) for (size, kind), texts in lines.items())
    return _table(("model", *(f"`{command}`" for command in commands)), body)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))
