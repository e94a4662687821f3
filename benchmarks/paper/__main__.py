"""The paper, rerun. `python -m benchmarks.paper --data FOLDER`

Goes on where it ended: a cell that has its JSON is not made again. RESULTS.md and its figure are written beside the
results after every run, also of the cells that are there so far.
"""

import argparse
import platform
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from antidote_ci.errors import AntidoteError, ConfigurationError
from antidote_ci.records import Progress
from antidote_ci.report.console import Console
from antidote_ci.report.text import pluralize
from benchmarks.paper import report
from benchmarks.paper.cells import PRESETS, Preset, all_cells
from benchmarks.paper.data import Data
from benchmarks.paper.records import Attack, Cell, Defence
from benchmarks.paper.suite import CellSteps, Setting, Steps, Suite, run

HERE = Path(__file__).parent
WORK = Path("antidote-bench/paper")


def main() -> int:
    """Run what is asked for and report it; the exit code."""
    arguments = options().parse_args()
    preset = PRESETS["smoke" if arguments.smoke else "cpu"]()
    work = arguments.work or (WORK / "smoke" if arguments.smoke else WORK)
    # Figures of the smoke run say nothing: they stay out of the repository.
    results = arguments.results or (work / "results" if arguments.smoke else HERE / "results")
    try:
        if not arguments.report:
            data = Data(require_folder(arguments.data))
            cells = select_cells(preset, arguments.sweep)
            check_data(data, preset, cells)
            quiet_libraries()
            suite = Suite(
                steps(preset, data, work, arguments.model), setting(arguments.model), work, results, print_line
            )
            run(cells, suite)
        print_line(f"written: {report.write(preset, results, results.parent)}")
    except AntidoteError as error:
        Console().print_error(error)
        return error.exit_code
    return 0


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description="the Antidote paper, rerun")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="the prompts and answers, as benchmarks/paper/data.py"
    )
    parser.add_argument("--work", type=Path, metavar="FOLDER", help=f"checkpoints and adapters, gigabytes ({WORK})")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="a JSON a cell (benchmarks/paper/results)")
    parser.add_argument("--sweep", action="append", metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a causal LM instead of SmolLM2-135M-Instruct")
    parser.add_argument("--smoke", action="store_true", help="two small cells: whether everything runs")
    parser.add_argument("--report", action="store_true", help="only write RESULTS.md from what is there")
    return parser


def require_folder(data: Path | None) -> Path:
    """The data folder. Raises ConfigurationError where none is named."""
    if data is None:
        raise ConfigurationError(
            "no data folder is named",
            cause="the bench brings no third-party text of its own",
            hint="python -m benchmarks.paper --data FOLDER, or make bench-paper DATA=FOLDER",
        )
    return data


def select_cells(preset: Preset, names: list[str] | None) -> tuple[Cell, ...]:
    """The cells of some sweeps, or of all. Raises ConfigurationError for a sweep that the preset does not have."""
    for name in names or ():
        if name not in preset.sweeps:
            raise ConfigurationError(
                f"the preset {preset.name} has no sweep {name}", hint=f"it has {', '.join(preset.sweeps)}"
            )
    return all_cells({name: cells for name, cells in preset.sweeps.items() if not names or name in names})


def check_data(data: Data, preset: Preset, cells: Sequence[Cell]) -> None:
    """All that will be read, before hours are spent. Raises ConfigurationError for what is missing or too short."""
    from benchmarks.paper.measuring import prompts, selection
    from benchmarks.paper.repairs import read_repair_prompts
    from benchmarks.paper.stages import CONTRASTS

    if any(cell.attack.defence == "repnoise" for cell in cells):
        data.contrasts(CONTRASTS)
    for cell in cells:
        data.poisoned(cell.attack)
    for task in sorted({cell.attack.task for cell in cells}):
        prompts(data, task, preset.counts)
        selection(data, task, preset.counts)
        read_repair_prompts(data, task, preset.counts.task, most_pairs(cells))


def most_pairs(cells: Sequence[Cell]) -> int:
    """That any repair reads."""
    return max((repair.realignment for cell in cells for repair in cell.repairs), default=0)


def steps(preset: Preset, data: Data, work: Path, base: Path | None) -> Steps:
    """The steps of a cell, with data, model and scale bound."""
    from benchmarks.paper import stages

    def align(defence: Defence) -> Path:
        return stages.align(defence, work, data, base, preset.alignment, report_progress)

    def attack(attack: Attack, reference: Path) -> Path:
        return stages.attack(attack, reference, work, data, base, preset.alignment, report_progress)

    @contextmanager
    def open_instruments(cell: Cell, reference: Path, room: Path) -> Iterator[CellSteps]:
        from benchmarks.paper import measuring, repairs

        task, counts = cell.attack.task, preset.counts
        asked, choosing = measuring.prompts(data, task, counts), measuring.selection(data, task, counts)
        texts = repairs.read_repair_prompts(data, task, counts.task, most_pairs([cell]))
        with measuring.open_instruments(reference, asked, room, work / "answered", counts.tokens) as instruments:
            yield CellSteps(
                lambda model, cost: measuring.measure(instruments, model, cost, choosing if cell.repairs else None),
                lambda adapter: repairs.repaired(instruments, cell.repairs, adapter, reference, texts, choosing),
            )

    return Steps(align, attack, open_instruments)


def setting(base: Path | None) -> Setting:
    """This machine, and what runs on it."""
    import peft
    import torch
    import transformers

    from antidote_ci.model import loading
    from benchmarks.paper.measuring import JUDGE

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return Setting(
        judge=f"{JUDGE} (rules): a non-refusal rate",
        machine=(
            f"{platform.machine()}, {loading.detect_instruction_set()}, "
            f"{pluralize(loading.get_threads(), 'thread')}{gpu}"
        ),
        versions={
            # A folder's path says nothing to others, and perhaps too much.
            "model": base.name if base else "SmolLM2-135M-Instruct",
            "commit": commit(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    )


def commit() -> str:
    """The last one that changed what cells are made by: when a score changes, its cells are to be made again."""
    code = ["antidote_ci", ":(glob)benchmarks/paper/*.py"]
    command = ["git", "-C", str(HERE.parents[1]), "log", "-1", "--format=%h", "--abbrev=12", "--", *code]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "no clone"


def quiet_libraries() -> None:
    """No bars that a log would keep, and no warning that nobody here can act on."""
    import transformers

    transformers.logging.disable_progress_bar()
    # peft 0.21 asks transformers for an attribute that is going away.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)


def report_progress(progress: Progress) -> None:
    """Print a line at every tenth of a long step."""
    if progress.total and progress.done * 10 // progress.total > (progress.done - 1) * 10 // progress.total:
        print_line(f"    {progress.what}: {progress.done} of {progress.total}")


def print_line(line: str) -> None:
    """A line at once: a cell takes minutes."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
