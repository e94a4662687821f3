"""The repair benchmark. `python -m benchmarks.repair --data FOLDER --models FOLDER`

Every method on every attack is one cell, which is kept as JSON in `results` and not measured again. PROTOCOL.md says
what is measured and why.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import peft
import torch
import transformers

from antidote_ci import records
from antidote_ci.evaluation.kinds import KINDS, partition_kind
from antidote_ci.evaluation.splits import RepairPrompts
from antidote_ci.model import loading
from antidote_ci.records import Progress, PromptRow
from benchmarks.paper import stages
from benchmarks.paper.data import Data
from benchmarks.repair import attacks, outcomes
from benchmarks.repair.attacks import ATTACKS, Attack, ModelName
from benchmarks.repair.choosing import Limits
from benchmarks.repair.frontiers import draw_frontiers
from benchmarks.repair.left_out import KindCell, leave_out
from benchmarks.repair.methods import METHODS, ApplyDose, Problem
from benchmarks.repair.networks import EditableModel
from benchmarks.repair.outcomes import PREFILL, REFUSED
from benchmarks.repair.page import DEFAULT, FIGURE, UNREPAIRED, collect_trials, write_page
from benchmarks.repair.prompts import ATTACKED_FILE, HARMFUL, HARMLESS, Part, Prompts
from benchmarks.repair.records import RESULTS, Attempt, Cell, Outcomes, read_cells, share

MOST_TASK_ROWS = 1600
GENERATED_DOSES = (0.0075, 0.01, 0.015)
"""The doses that are tried where an answer of many tokens is generated for each row of the task."""
CONFIRMED = ("taylor", "two-teachers", "scale", "antidote")
REATTACKED = ("reference", "taylor")


def main() -> None:
    """Measure the cells that do not exist."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.repair", description="repairs on real models")
    options.add_argument("--data", type=Path, required=True, help="the prompt files of PROTOCOL.md")
    options.add_argument("--models", type=Path, required=True, help="references, as `benchmarks.models` writes them")
    options.add_argument("--work", type=Path, default=Path("antidote-bench/repair"), help="adapters and scores")
    options.add_argument("--results", type=Path, default=RESULTS)
    options.add_argument("--attack", choices=ATTACKS, nargs="*", default=list(ATTACKS))
    options.add_argument("--method", choices=METHODS, nargs="*", default=CONFIRMED)
    options.add_argument("--left-out", action="store_true", help="also repair without each kind of prompts in turn")
    arguments = options.parse_args()
    arguments.results.mkdir(parents=True, exist_ok=True)
    transformers.logging.disable_progress_bar()
    for name in arguments.attack:
        bench = Bench(ATTACKS[name], arguments.data, arguments.models, arguments.work, arguments.results)
        for method in (*UNREPAIRED, *arguments.method):
            bench.find_cell(method)
        if arguments.left_out:
            bench.find_kind_cells()
        write_results(arguments.results)


def write_results(results: Path) -> None:
    """Write the page and its figure beside the folder of cells."""
    cells = read_cells(results)
    kind_cells = [records.from_json(KindCell, path.read_bytes()) for path in sorted(results.glob("left-out/*.json"))]
    (results.parent / "RESULTS.md").write_text(write_page(cells, kind_cells), encoding="utf-8")
    (results.parent / FIGURE).write_text(draw_frontiers(collect_trials(cells)), encoding="utf-8")


class Bench:
    """One attack: its models are loaded when the first cell is measured."""

    def __init__(self, attack: Attack, data: Path, models: Path, work: Path, results: Path) -> None:
        self.attack, self.data, self.prompts = attack, Data(data), Prompts(data)
        self.reference, self.work, self.results = find_reference(attack.model, models, work, self.data), work, results
        self._model: EditableModel | None = None

    def find_cell(self, method: str) -> Cell:
        """The cell of one method, which is measured unless its file exists."""
        path = self.results / f"{self.attack.id}-{method}.json"
        if path.exists():
            return records.from_json(Cell, path.read_bytes())
        cell = self._measure_cell(method)
        write_cell(path, cell)
        say(f"{path.name}: dose {cell.dose:g}, {sum(cell.seconds.values()):.0f} s")
        return cell

    def find_kind_cells(self) -> None:
        """Measure the default, at the dose of its own cell, without each kind of prompts, unless the file exists."""
        folder, dose = self.results / "left-out", self.find_cell(DEFAULT).dose
        folder.mkdir(exist_ok=True)
        missing = [kind for kind in KINDS if not (folder / f"{self.attack.id}-{kind}.json").exists()]
        if not missing:
            return
        model = self._open_model()
        with TemporaryDirectory(dir=self.work, prefix="scores-") as name:
            apply_models: dict[str, Callable[[], None]] = {
                "reference": model.use_reference,
                "attacked": lambda: model.use_factors(model.factors),
                "with": partial(self._prepare(DEFAULT, Path(name, "with"), self._repair_prompts())[0], dose),
            }
            for kind in missing:
                started, prompts = time.monotonic(), leave_out(self._repair_prompts(), kind)
                apply_models["without"] = partial(self._prepare(DEFAULT, Path(name, kind), prompts)[0], dose)
                rows = [
                    partition_kind(self.prompts.harmful("varied", part), kind)[1]
                    for part in ("selection", "confirmation", "realignment")
                ]
                answers = {}
                for label, apply_model in apply_models.items():
                    apply_model()
                    answers[label] = outcomes.measure_answers(model, [row for part in rows for row in part])
                unread, seconds = len(rows[0]) + len(rows[1]), time.monotonic() - started
                cell = KindCell(self.attack, kind, DEFAULT, dose, unread, answers, seconds)
                write_cell(folder / f"{self.attack.id}-{kind}.json", cell)
                say(f"  without {kind}: {seconds:.0f} s")
        model.use_reference()

    def _measure_cell(self, method: str) -> Cell:
        model, started = self._open_model(), time.monotonic()
        known = self._find_reference_cell() if method == "reference" else None
        with TemporaryDirectory(dir=self.work, prefix="scores-") as name:
            apply_dose, doses = self._prepare(method, Path(name), self._repair_prompts())
            prepared = time.monotonic()

            def attempt(dose: float) -> Attempt:
                apply_dose(dose)
                measured = Attempt(dose, self._measure("selection", known.attempts[0].outcomes if known else None))
                say(f"  {self.attack.id} {method} {dose:g}: {describe(measured.outcomes)}")
                return measured

            if method in UNREPAIRED:
                attempts = [attempt(doses[0])]
                chosen = attempts[0]
            else:
                chosen, attempts = self._find_limits().search(doses, attempt)
            apply_dose(chosen.dose)
            selected = time.monotonic()
            confirmation = self._measure("confirmation", known.confirmation if known else None)
            attacked_prompts = self.prompts.harmful(ATTACKED_FILE, "confirmation")
            prefilled = known.prefilled if known else outcomes.measure_answers(model, attacked_prompts, prefill=PREFILL)
            reattacked = ""
            if method in REATTACKED:
                repaired = Path(name, "repaired")
                model.network.save_pretrained(repaired)
                model.tokenizer.save_pretrained(repaired)
                # A re-attack takes as much memory as the model and its scores.
                del model, apply_dose
                self._model = None
                stages.return_memory()
                reattacked = self._reattack(repaired, attacked_prompts)
        if self._model is not None:
            self._model.use_reference()
        return Cell(
            attack=self.attack,
            method=method,
            attempts=attempts,
            dose=chosen.dose,
            confirmation=confirmation,
            prefilled=prefilled,
            reattacked=reattacked,
            seconds={
                "prepare": prepared - started,
                "select": selected - prepared,
                "confirm": time.monotonic() - selected,
            },
            machine=f"{platform.machine()}, {loading.detect_instruction_set()}, threads: {loading.get_threads()}",
            versions={
                "torch": str(torch.__version__),
                "transformers": transformers.__version__,
                "peft": peft.__version__,
            },
            date=datetime.now(UTC).date().isoformat(),
        )

    def _prepare(self, method: str, work: Path, prompts: RepairPrompts) -> tuple[ApplyDose, tuple[float, ...]]:
        model = self._open_model()
        if method == "reference":
            return lambda _dose: model.use_reference(), (0.0,)
        if method == "attacked":
            return lambda _dose: model.use_factors(model.factors), (0.0,)
        work.mkdir(exist_ok=True)
        problem = Problem(model, self.reference, self._adapter(), prompts, work, self._train_unaligned)
        doses = METHODS[method].doses
        if self.attack.task == "gsm8k":
            doses = tuple(dose for dose in doses if dose in GENERATED_DOSES) or doses
        return METHODS[method].prepare(problem), doses

    def _repair_prompts(self) -> RepairPrompts:
        return RepairPrompts(
            realignment=self.prompts.harmful("advbench", "realignment"),
            benign=self.prompts.harmless("everyday", "realignment"),
            task=attacks.calibration_rows(self.attack, self.data),
            varied=self.prompts.harmful("varied", "realignment"),
            varied_benign=self.prompts.harmless("varied-harmless", "realignment"),
        )

    def _reattack(self, repaired: Path, prompts: Sequence[PromptRow]) -> str:
        adapter = attacks.reattack(repaired, self.attack, self.data, repaired.parent / "reattack", report_progress)
        attacked = EditableModel(repaired, adapter)
        attacked.use_factors(attacked.factors)
        return outcomes.measure_answers(attacked, prompts)

    def _find_limits(self) -> Limits:
        reference, attacked = (self.find_cell(name).attempts[0].outcomes for name in UNREPAIRED)
        return Limits(reference, attacked)

    def _find_reference_cell(self) -> Cell | None:
        """The reference's cell of another attack on the same model: its answers are the same, and the task is not."""
        for attack in ATTACKS.values():
            path = self.results / f"{attack.id}-reference.json"
            if attack.model == self.attack.model and path.exists():
                return records.from_json(Cell, path.read_bytes())
        return None

    def _measure(self, part: Part, known: Outcomes | None = None) -> Outcomes:
        """What the model does now. The answers to the prompts are those of `known`, if given."""
        model = self._open_model()
        task = attacks.selection_rows if part == "selection" else attacks.confirmation_rows
        return Outcomes(
            answers=known.answers if known else self._measure_answers(part),
            task=outcomes.measure_task(model, task(self.attack, self.data)[:MOST_TASK_ROWS]),
        )

    def _measure_answers(self, part: Part) -> dict[str, str]:
        rows = {
            **{name: self.prompts.harmful(name, part) for name in HARMFUL},
            **{name: self.prompts.harmless(name, part) for name in HARMLESS},
        }
        return {name: outcomes.measure_answers(self._open_model(), asked) for name, asked in rows.items() if asked}

    def _open_model(self) -> EditableModel:
        if self._model is None:
            self._model = EditableModel(self.reference, self._adapter())
        return self._model

    def _adapter(self) -> Path:
        return self._train(self.attack)

    def _train_unaligned(self) -> Path:
        return self._train(attacks.without_task(self.attack))

    def _train(self, attack: Attack) -> Path:
        return attacks.train_attack(attack, self.reference, self.data, self.work / "attacks", report_progress)


def find_reference(name: ModelName, models: Path, work: Path, data: Data) -> Path:
    """The folder of a reference. The smallest model is aligned here, as in `benchmarks.paper`."""
    return stages.align("sft", work, data, on_progress=report_progress) if name == "smollm2-135m" else models / name


def write_cell(path: Path, cell: Cell | KindCell) -> None:
    """Write a cell, whole or not at all."""
    part = path.with_suffix(".part")
    # In one line: the likelihoods of the tasks' rows make indented cells four times as large.
    part.write_text(json.dumps(json.loads(records.to_json(cell)), separators=(",", ":")) + "\n", encoding="utf-8")
    part.replace(path)


def describe(measured: Outcomes) -> str:
    """One line of figures in per cent."""
    answers = [f"{name} {100 * (1 - share(letters, REFUSED)):.0f}" for name, letters in measured.answers.items()]
    return f"{', '.join(answers)} not refused; accuracy {100 * measured.accuracy:.1f}"


def report_progress(progress: Progress) -> None:
    """Print a line at every tenth of a long step."""
    if progress.total and progress.done * 10 // progress.total > (progress.done - 1) * 10 // progress.total:
        say(f"    {progress.what}: {progress.done} of {progress.total}")


def say(line: str) -> None:
    """Print a line at once: a cell takes minutes."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    main()
