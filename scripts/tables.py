"""Generate the tables in the documents from the code: `python -m scripts.tables`. `--check` only compares.

A table is between the lines `<!-- NAME -->` and `<!-- /NAME -->`. The function `tables` lists the names.
"""

import dataclasses
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import cleandoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
import yaml
from huggingface_hub import JobHardwareInfo
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from action import outputs
from antidote_ci import DOCUMENTATION, cli, cost_model
from antidote_ci.cli.init import read_descriptions
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.prompts import SELECTION_SHARE
from antidote_ci.hub import memory_needs
from antidote_ci.hub.jobs_api import Hardware, to_hardware
from antidote_ci.jobs.job_estimate import MemoryNeed, cheapest_flavor
from antidote_ci.pipeline import dry_run
from antidote_ci.policy import SECTIONS, Policy, to_quick
from antidote_ci.repair.methods import METHODS
from benchmarks.repair.page import collect_trials, select_confirmed, write_summary
from benchmarks.repair.records import RESULTS, read_cells
from loopback_hub.jobs import flavor_json
from loopback_hub.records import HARDWARE

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]

OTHER_KEYS = {
    "threshold": "gate.harmful_score",
    "accept-repair": "repair.accept",
    "publish": "publish.mode",
    "publish-to": "publish.to",
}
"""Option -> policy key, where the names differ."""

DOCUMENT_OF_OPTION = {
    "--prompts": "prompts.md",
    "--benign": "prompts.md",
    "--task": "task.md",
    "--baseline": "compare.md",
    "--judge": "judges.md",
    "--quick": "evaluation.md",
    "--policy": "policy.md",
    "--method": "repair.md",
    "--publish": "publishing.md",
    "--on": "hf-jobs.md",
    "--server": "servers.md",
}
"""Option -> its document. The help of a command has no room for the addresses of all."""
GENERAL = ("quiet", "verbose")
"""Options that every command accepts."""

MODEL_SIZES = (500_000_000, 3_000_000_000, 7_000_000_000, 13_000_000_000, 70_000_000_000)
CHECKPOINT_BYTES = {"full, or an adapter of a base in 16 bits": 2, "an adapter of a base in float32": 4}
"""Checkpoint -> bytes of a weight while it is loaded."""


@dataclass(frozen=True)
class Runner:
    """A runner of GitHub; `memory` in bytes, with a GPU that of the GPU."""

    name: str
    processors: int
    memory: float
    has_gpu: bool = False


@dataclass(frozen=True)
class Workload:
    """Tokens that a command generates, that the judge reads, and that scoring reads, times its passes."""

    generated: int
    judged: int = 0
    scored: int = 0
    copies: float = cost_model.EVALUATION_COPIES


RUNNERS = (
    Runner("4 cores, 16 GB", 4, 16e9),
    Runner("16 cores, 64 GB", 16, 64e9),
    Runner("4 cores, one T4", 4, 16e9, has_gpu=True),
)
T4 = to_hardware(JobHardwareInfo(**flavor_json(next(flavor for flavor in HARDWARE if flavor.name == "t4-small"))))
RUNNER_SIZES = (135_000_000, 500_000_000, 1_500_000_000, 3_000_000_000, 7_000_000_000)
JUDGE_WEIGHTS = 600_000_000
"""Of the default judge."""
QUICK_PROMPTS, DEFAULT_PROMPTS = 200, 513
"""Harmful and harmless ones of JailbreakBench, and harmful ones of StrongREJECT."""
EVALUATIONS_OF_RUN = (
    dry_run.EVALUATIONS_OF_CONFIRMATION * (1 - SELECTION_SHARE) + dry_run.EVALUATIONS_OF_SELECTION * SELECTION_SHARE
)
"""Of all prompts."""
SCORED_TOKENS = METHODS["taylor"].passes * 5400
"""Of `taylor`: passes, and tokens of the prompts that it reads."""
JUDGED_LENGTH = dry_run.JUDGE_TOKENS + Policy().evaluation.max_new_tokens
WORKLOADS = {
    "evaluate --quick": Workload(QUICK_PROMPTS * to_quick(Policy()).evaluation.max_new_tokens),
    "evaluate": Workload(DEFAULT_PROMPTS * Policy().evaluation.max_new_tokens, DEFAULT_PROMPTS * JUDGED_LENGTH),
    "run": Workload(
        round(EVALUATIONS_OF_RUN * DEFAULT_PROMPTS * Policy().evaluation.max_new_tokens),
        round(EVALUATIONS_OF_RUN * DEFAULT_PROMPTS * JUDGED_LENGTH),
        SCORED_TOKENS,
        cost_model.RUN_COPIES,
    ),
}
"""With the default policy."""
BEHIND_SERVER = "full or an adapter, behind a server"

KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "table"}
"""Type -> its name in the documents."""


def main(arguments: Sequence[str], documents: Sequence[Path] = DOCUMENTS) -> int:
    """Update and print the outdated documents. With `--check`, only print them; exit code 1 if there are any."""
    check_only, outdated = "--check" in arguments, 0
    for document in documents:
        text = document.read_text(encoding="utf-8")
        if fill_tables(text) != text:
            outdated = 1
            print(document)
            if not check_only:
                document.write_text(fill_tables(text), encoding="utf-8")
    return outdated if check_only else 0


def fill_tables(text: str) -> str:
    """Return the document with current tables. Raises KeyError for an unknown table."""

    def fill(marker: re.Match[str]) -> str:
        name = marker["name"]
        return f"<!-- {name} -->\n{tables()[name]}\n<!-- /{name} -->"

    return re.sub(r"^<!-- (?P<name>[a-z-]+) -->\n.*?^<!-- /(?P=name) -->$", fill, text, flags=re.DOTALL | re.MULTILINE)


@cache
def tables() -> dict[str, str]:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    return {
        "commands": "\n\n".join(describe_command(path, command) for path, command in commands()),
        "exit-codes": exit_code_table(),
        "policy": "\n\n".join(policy_section(name, kind) for name, kind in SECTIONS.items()),
        "inputs": action_table("Input", action["inputs"]),
        "outputs": action_table("Output", action["outputs"]),
        "flavors": flavor_table(),
        "runners": runner_table(),
        "repairs": write_summary(select_confirmed(collect_trials(read_cells(RESULTS)))),
    }


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table without its empty columns."""
    columns = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    lines = [headings, *([add_links(cell) for cell in row] for row in rows)]
    head, *body = ["| " + " | ".join(line[i].replace("|", "\\|") for i in columns) + " |" for line in lines]
    return "\n".join([head, "|" + "---|" * len(columns), *body])


def add_links(text: str) -> str:
    """Turn names and addresses of documents into links, and options and variables into code."""
    text = text.replace(f"{DOCUMENTATION}/", "docs/")
    text = re.sub(r"docs/([\w-]+\.md)", r"[\1](\1)", text)
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]+|[A-Z]+(?:_[A-Z]+)+)(?![\w`])", r"`\1`", text)


def commands(group: TyperGroup | None = None, before: str = "") -> Iterator[tuple[str, TyperCommand]]:
    """Yield every command with its path, such as `judge calibrate`."""
    for name, command in (group or typer.main.get_group(cli.app)).commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{before}{name} ")
        elif isinstance(command, TyperCommand):
            yield before + name, command


def describe_command(path: str, command: TyperCommand) -> str:
    arguments = [parameter for parameter in command.params if isinstance(parameter, TyperArgument)]
    heading = " ".join(
        [path, *(str(argument.metavar) if argument.required else f"[{argument.metavar}]" for argument in arguments)]
    )
    texts = cleandoc(command.help or "").removesuffix(f"More: {DOCUMENTATION}/commands.md").strip().split("\n\n")
    paragraphs = [" ".join(text.split()) for text in texts]
    notes = [f"`{argument.metavar}`: {sentence(argument.help or '')}{default_note(argument)}" for argument in arguments]
    listed = [option_row(command, option) for option in options(command)]
    rare = [option_row(command, option) for option in options(command, hidden=True)]
    headings = ("Option", "Meaning", "Default", "Variable", "Policy")
    option_tables = [table(headings, listed)] if listed else []
    option_tables += ["Rare options, which --help does not list:", table(headings, rare)] * bool(rare)
    return "\n\n".join([f"### {heading}", *map(add_links, [*paragraphs, *notes]), *option_tables])


def default_note(argument: TyperArgument) -> str:
    return "" if argument.required else f" Default: {format_default(argument.default)}."


def options(command: TyperCommand, *, hidden: bool = False) -> list[TyperOption]:
    return [
        parameter
        for parameter in command.params
        if isinstance(parameter, TyperOption) and parameter.hidden == hidden and parameter.name not in GENERAL
    ]


def option_row(command: TyperCommand, option: TyperOption) -> tuple[str, str, str, str, str]:
    key = policy_key(command, option)
    variable = option.envvar if isinstance(option.envvar, str) else ""
    return (
        ", ".join(map(code, [*option.opts, *option.secondary_opts])),
        option_meaning(option),
        "required" if option.required else format_default(policy_default(key) if key else option.default),
        code(variable),
        code(key or ""),
    )


def option_meaning(option: TyperOption) -> str:
    """Return the help text, followed by the choices if the text does not name all of them."""
    text, values = sentence(option.help or ""), choices(option)
    unnamed = [value for value in values if not re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", text)]
    text += f" One of {join_choices(values)}." if unnamed else ""
    document = DOCUMENT_OF_OPTION.get(option.opts[0])
    return f"{text} See docs/{document}." if document else text


def choices(option: TyperOption) -> list[str]:
    """Return the values of an option with a fixed set of values."""
    kind: Any = option.type_descriptor.annotation
    return list(get_args(kind)) if get_origin(kind) is Literal else []


def policy_key(command: TyperCommand, option: TyperOption) -> str | None:
    """Return the policy key that gives the default of the option, as `section.key`."""
    name = option.opts[0].removeprefix("--")
    reads_policy = any("--policy" in parameter.opts for parameter in command.params)
    if not reads_policy or option.required or option.default is not None:
        return None
    policy_name = OTHER_KEYS.get(name) or name.replace("-", "_")
    return next((key for key in policy_keys() if policy_name in (key, key.partition(".")[2])), None)


def policy_keys() -> list[str]:
    return [f"{name}.{field.name}" for name, kind in SECTIONS.items() for field in dataclasses.fields(kind)]


def policy_default(key: str) -> object:
    name, _, field = key.partition(".")
    return getattr(SECTIONS[name](), field)


def policy_section(name: str, kind: type) -> str:
    descriptions, types = read_descriptions(kind), get_type_hints(kind)
    rows = [
        (code(field.name), type_name(types[field.name]), format_toml(default), descriptions.get(field.name, ""))
        for field in dataclasses.fields(kind)
        for default in [getattr(kind(), field.name)]
    ]
    about = sentence(" ".join(cleandoc(kind.__doc__ or "").split()).partition(": ")[2])
    about = about[:1].upper() + about[1:]
    return f"## `[{name}]`\n\n{add_links(about)}\n\n{table(('Key', 'Type', 'Default', 'Meaning'), rows)}"


def type_name(annotation: Any) -> str:  # noqa: ANN401 - a type as `get_type_hints` gives it
    if get_origin(annotation) is Literal:
        return join_choices(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(type_name(kind) for kind in get_args(annotation) if kind is not NoneType)
    return KINDS[get_origin(annotation) or annotation]


def exit_code_table() -> str:
    """Return the table of exit codes, those of signals last."""
    success = "The model passes; with --accept-repair, also if the model fails and a repair passes."
    return table(
        ("Code", "Meaning"), [(str(number), text) for number, text in ({0: success} | outputs.FAILURE_TEXTS).items()]
    )


def action_table(heading: str, entries: dict[str, dict[str, str]]) -> str:
    return table((heading, "Meaning"), [(code(name), entry["description"]) for name, entry in entries.items()])


def flavor_table() -> str:
    """Return the table of the flavours that are chosen for models of typical sizes, from the Hub's catalogue."""
    offered = [to_hardware(JobHardwareInfo(**flavor_json(flavor))) for flavor in HARDWARE]
    return table(
        ("Weights", "Checkpoint", "GPU memory needed", "Flavor", "GPU memory", "Price an hour"),
        [flavor_row(size, kind, offered) for size in MODEL_SIZES for kind in CHECKPOINT_BYTES]
        + [flavor_row(MODEL_SIZES[-1], BEHIND_SERVER, offered)],
    )


def flavor_row(weights: int, checkpoint: str, offered: Sequence[Hardware]) -> tuple[str, ...]:
    merging = weights * CHECKPOINT_BYTES.get(checkpoint, 0) + memory_needs.BASE_MEMORY
    need = MemoryNeed("", memory_needs.gpu_memory(weights), merging, on_server=checkpoint == BEHIND_SERVER)
    size = f"{weights / 1e9:g} billion"
    try:
        chosen = cheapest_flavor(need, offered)
    except ConfigurationError:
        return size, checkpoint, f"{need.gpu_bytes() / 1e9:,.0f} GB", "none: use a server", "", ""
    gpus = f"{chosen.gpus} x " if chosen.gpus > 1 else ""
    memory = f"{gpus}{(chosen.gpu_memory or 0) / 1e9:,.0f} GB"
    needed = f"{need.gpu_bytes(chosen) / 1e9:,.0f} GB"
    return size, checkpoint, needed, code(chosen.name), memory, f"${chosen.dollars:,.2f}"


def runner_table() -> str:
    """Return the table of the time that the commands take on a runner, by size of the model, at most."""
    rows = [
        (
            f"{weights / 1e9:g} billion",
            runner.name,
            *(runner_cell(weights, runner, work) for work in WORKLOADS.values()),
        )
        for weights in RUNNER_SIZES
        for runner in RUNNERS
    ]
    return table(("Weights", "Runner", *map(code, WORKLOADS)), rows)


def runner_cell(weights: int, runner: Runner, work: Workload) -> str:
    needed = cost_model.typical_memory(weights, memory_needs.FLOAT32_BYTES, work.copies)
    if runner.has_gpu:
        needed = MemoryNeed("", memory_needs.gpu_memory(weights)).gpu_bytes(T4)
    if needed > runner.memory:
        return "too large"
    computation = cost_model.Computation(
        generated=work.generated * weights,
        scored=work.scored * weights + work.judged * JUDGE_WEIGHTS,
        written=cost_model.BYTES_PER_WEIGHT * weights if work.scored else 0,
    )
    seconds = computation.seconds(runner.processors, has_gpu=runner.has_gpu, has_bfloat16=False)
    return f"{math.ceil(seconds / 60):,} min" if seconds < 7200 else f"{seconds / 3600:,.0f} h"


def format_default(value: object) -> str:
    """Format the default of an option; empty if there is none."""
    if value is None or isinstance(value, bool):
        return "on" if value else ""
    return code(str(value))


def format_toml(value: object) -> str:
    """Format the default of a policy key as TOML."""
    return "" if value is None else code(json.dumps(value))


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def join_choices(values: Sequence[str]) -> str:
    *first, last = map(code, values)
    return " or ".join(filter(None, (", ".join(first), last)))


def sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "?")) or not text else f"{text}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
