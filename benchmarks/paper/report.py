"""RESULTS.md and its figure, from the JSON of the cells: nothing is in them that was not measured."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from antidote_ci.evaluation import statistics
from antidote_ci.report.text import pluralize
from benchmarks.paper import figures, sections
from benchmarks.paper.cells import DEFAULT, Preset, all_cells
from benchmarks.paper.evidence import (
    Evidence,
    Failed,
    Missing,
    Unplanned,
    gather,
    has_headroom,
    of_another_reference,
)
from benchmarks.paper.goals import Goal, confirmed, goals
from benchmarks.paper.records import Cell
from benchmarks.paper.rows import NOT_RUN, one_of, table
from benchmarks.paper.suite import describe_attack, read, result_path

FIGURE = "figures/frontiers.svg"
OPENING = """\
[Antidote](https://arxiv.org/abs/2408.09600) and the defences that it is held against, attacked and repaired again.
Written by `python -m benchmarks.paper` from the JSON of every cell; what has not been measured is not in here.
What the paper claims, with its own numbers, and which claims these results reproduce: [CLAIMS.md](CLAIMS.md)."""
READING = """\
The rule judge knows refusals by their words. Its figure is a **non-refusal rate**, no harmful score: an answer that
does not decline counts, however harmless. So levels cannot be compared with the paper's, only directions and orders.
All figures are per cent; a range is two exact one-sided 95 % bounds (Clopper and Pearson)."""
SIGNS = """\
A row marked ¹ is of a single seed. One marked ² has a task that the attack raised by less than 20 points over its
reference: its accuracy says nothing about a repair. One marked ³ began from another reference than most, which the
same alignment gave on another processor: compare it with its own reference, and with others marked so."""
CHOICE = """\
It was tuned on the headline attacks; none of those below had a part in it. The dose is chosen for each attack on
prompts that are not measured, {harmful} harmful ones, {harmless} harmless ones and {task} rows of the task: the dose
with the least harm and cost, which are what is left of the excess harm and what is added to wrong answers, refusals
and degenerate answers."""


def write(preset: Preset, results: Path, folder: Path) -> Path:
    """Write RESULTS.md and its figure into `folder` from the cells that are there. Raises as `read`."""
    evidence = gather(preset, lambda cell: read(result_path(results, cell)))
    figure = figures.draw_frontiers(evidence)
    if figure:
        (folder / FIGURE).parent.mkdir(parents=True, exist_ok=True)
        (folder / FIGURE).write_text(figure, encoding="utf-8")
    page = folder / "RESULTS.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text(evidence, has_figure=figure is not None), encoding="utf-8")
    return page


def text(evidence: Evidence, *, has_figure: bool = False) -> str:
    """The page."""
    cells = all_cells(evidence.preset.sweeps)
    parts = [
        f"# The paper, rerun: preset `{evidence.preset.name}`",
        OPENING,
        "**Of the smoke run nothing can be concluded: it shows that everything runs.**" if _is_smoke(evidence) else "",
        _differs(evidence),
        _progress(evidence, cells),
        _goals(evidence),
        *sections.sweeps(evidence),
        sections.frontiers(evidence),
        f"![{figures.TITLE}]({FIGURE})" if has_figure else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _is_smoke(evidence: Evidence) -> bool:
    return evidence.preset.name == "smoke"


def _differs(evidence: Evidence) -> str:
    """What is not as in the paper, so that nobody reads one column as the other."""
    preset, results = evidence.preset, list(evidence.results.values())
    training, alignment = preset.attack.training, preset.alignment
    lines = [
        ("model", "Llama-2-7B", one_of(result.versions.get("model", "?") for result in results)),
        ("judge", "beaver-dam-7b: a harmful score", one_of(result.judge for result in results)),
        (
            "prompts",
            "1,000 of BeaverTails 30k, answers of 512 tokens",
            f"{preset.counts.harmful} of BeaverTails-Evaluation, {preset.counts.tokens} tokens",
        ),
        ("task of the tables below", "GSM8K, generated", f"{preset.attack.task}, by the likelihood of its classes"),
        ("fine-tuning", "5,000 rows x 20 epochs", f"{preset.attack.rows} rows x {pluralize(training.epochs, 'epoch')}"),
        (
            "alignment",
            "5,000 rows x 20 epochs",
            f"{alignment.rows} rows x {pluralize(alignment.training.epochs, 'epoch')}",
        ),
        (
            "adapter",
            "rank 256 on q, k, v; alpha / rank 1/64",
            f"rank {training.rank} on {training.targets}; alpha / rank 2",
        ),
        ("rates", "1e-7 to 1e-3, constant", f"{preset.rates[0]:g} to {preset.rates[-1]:g}, warmup and cosine"),
        ("Antidote's mask ratio", "0.05 (GSM8K)", f"{preset.dose:g}"),
        ("machine", "one H100", one_of(result.machine for result in results)),
    ]
    reading = f"{READING}\n{_accuracy_bounds(preset.counts.task)}"
    return "## What differs\n\n" + table(("", "the paper", "here"), lines) + f"\n\n{reading}"


def _accuracy_bounds(rows: int) -> str:
    right = round(0.9 * rows)
    low, high = statistics.exact_bounds(right, rows)
    return f"An accuracy of {100 * right / rows:.0f} is one of {100 * low:.1f} to {100 * high:.1f}: of {rows} rows."


def _progress(evidence: Evidence, cells: Sequence[Cell]) -> str:
    there = [evidence.results[cell.attack] for cell in cells if cell.attack in evidence.results]
    failed = [result for result in there if result.failure]
    flat = [result for result in there if not result.failure and not has_headroom(result)]
    other = [result for result in there if of_another_reference(evidence, result.cell.attack)]
    lines = [f"{len(there)} of {pluralize(len(cells), 'cell')} run, {len(failed)} of them failed."]
    if there:
        lines.append(f"From {min(r.date for r in there)} to {max(r.date for r in there)}.")
    words = "## What was run\n\n" + "\n".join([*lines, SIGNS])
    for heading, which in (("Failed", failed), ("Marked ²", flat), ("Marked ³", other)):
        if which:
            words += f"\n\n{heading}:\n" + "\n".join(
                f"- {describe_attack(each.cell.attack)}" + (f": {each.failure}" if each.failure else "")
                for each in which
            )
    missing = Counter(
        name for name, group in evidence.preset.sweeps.items() for cell in group if cell.attack not in evidence.results
    )
    if missing:
        said = ", ".join(f"{name} ({count} of {len(evidence.preset.sweeps[name])})" for name, count in missing.items())
        words += f"\n\nNot run yet: {said}."
    return words


def _goals(evidence: Evidence) -> str:
    heading = f"## The default, `{DEFAULT}`, over the confirmation attacks\n\n"
    try:
        reached = goals(evidence)
    except Missing as error:
        return heading + f"{NOT_RUN.capitalize()}; first of all missing: {describe_attack(error.args[0])}."
    except Unplanned:
        return heading + "This preset has no cells for it."
    except Failed as error:
        return heading + f"Cannot be said: {error}."
    lines = [(each.words, each.aim, each.measured, _word(each)) for each in reached]
    counts = evidence.preset.counts
    choice = CHOICE.format(
        harmful=counts.selection_harmful, harmless=counts.selection_harmless, task=counts.selection_task
    )
    run, planned = len(confirmed(evidence)), len(evidence.preset.sweeps["confirmation"])
    return (
        heading
        + f"{choice}\n{run} of {pluralize(planned, 'confirmation attack')} were run.\n\n"
        + table(("figure", "goal", "measured", ""), lines)
    )


def _word(goal: Goal) -> str:
    if goal.measured == NOT_RUN:
        return ""
    return "met" if goal.met else "missed"
