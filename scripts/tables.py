"""Writes into the documents the tables that the code decides: `python -m scripts.tables`; `--check` only compares.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`, each on a line of its own; `tables` lists the names.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from inspect import cleandoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
import yaml
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from action import outputs
from antidote_ci import cli
from antidote_ci.cli.scaffold import read_descriptions
from antidote_ci.policy import SECTIONS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]

OTHER_KEYS = {
    "threshold": "gate.harmful_score",
    "accept-repair": "repair.accept",
    "publish": "publish.mode",
    "publish-to": "publish.to",
}
"""Options that a policy calls by another name."""

KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
"""What people call a type."""


def main(arguments: Sequence[str], documents: Sequence[Path] = DOCUMENTS) -> int:
    """Write, and name, the documents that the code has left behind; with `--check` only name them, and 1 for any."""
    checking, drifted = "--check" in arguments, 0
    for document in documents:
        text = document.read_text(encoding="utf-8")
        if filled(text) != text:
            drifted = 1
            print(document)
            if not checking:
                document.write_text(filled(text), encoding="utf-8")
    return drifted if checking else 0


def filled(text: str) -> str:
    """A document with every table as the code is now; raises KeyError for a table that nobody knows."""

    def fill(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- {name} -->\n{tables()[name]}\n<!-- /{name} -->"

    return re.sub(r"^<!-- (?P<name>[a-z-]+) -->\n.*?^<!-- /(?P=name) -->$", fill, text, flags=re.DOTALL | re.MULTILINE)


@cache
def tables() -> dict[str, str]:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    return {
        "commands": "\n\n".join(described(path, command) for path, command in commands()),
        "exit-codes": exit_codes(),
        "policy": "\n\n".join(section(name, kind) for name, kind in SECTIONS.items()),
        "inputs": of_action("Input", action["inputs"]),
        "outputs": of_action("Output", action["outputs"]),
    }


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns in which nothing stands are left out."""
    kept = [at for at in range(len(headings)) if any(row[at] for row in rows)]
    lines = [headings, *([linked(cell) for cell in row] for row in rows)]
    head, *body = ["| " + " | ".join(line[at].replace("|", "\\|") for at in kept) + " |" for line in lines]
    return "\n".join([head, "|" + "---|" * len(kept), *body])


def linked(text: str) -> str:
    """As it is read in a document beside: other documents are links, options and variables are code."""
    text = re.sub(r"docs/([\w-]+\.md)", r"[\1](\1)", text)
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]+|[A-Z]+(?:_[A-Z]+)+)(?![\w`])", r"`\1`", text)


def commands(group: TyperGroup | None = None, before: str = "") -> Iterator[tuple[str, TyperCommand]]:
    """Every command with its words, `judge calibrate`."""
    for name, command in (group or typer.main.get_group(cli.app)).commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{before}{name} ")
        elif isinstance(command, TyperCommand):
            yield before + name, command


def described(path: str, command: TyperCommand) -> str:
    arguments = [each for each in command.params if isinstance(each, TyperArgument)]
    heading = " ".join([path, *(str(each.metavar) if each.required else f"[{each.metavar}]" for each in arguments)])
    paragraphs = [" ".join(each.split()) for each in cleandoc(command.help or "").split("\n\n")]
    where = [f"`{each.metavar}`: {sentence(each.help or '')}{otherwise(each)}" for each in arguments]
    rows = [row(command, each) for each in options(command)]
    made = [table(("Option", "Meaning", "Default", "Variable", "Policy"), rows)] if rows else []
    return "\n\n".join([f"### {heading}", *map(linked, [*paragraphs, *where]), *made])


def otherwise(argument: TyperArgument) -> str:
    return "" if argument.required else f" Unless given, {shown(argument.default)}."


def options(command: TyperCommand) -> list[TyperOption]:
    return [each for each in command.params if isinstance(each, TyperOption) and not each.hidden]


def row(command: TyperCommand, option: TyperOption) -> tuple[str, str, str, str, str]:
    key = policy_key(command, option)
    variable = option.envvar if isinstance(option.envvar, str) else ""
    return (
        ", ".join(map(code, [*option.opts, *option.secondary_opts])),
        meaning(option),
        "required" if option.required else shown(policy_default(key) if key else option.default),
        code(variable),
        code(key or ""),
    )


def meaning(option: TyperOption) -> str:
    """Its help, and the values it knows where the help does not name them all."""
    text, values = sentence(option.help or ""), choices(option)
    unnamed = [value for value in values if not re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", text)]
    return text + (f" One of {either(values)}." if unnamed else "")


def choices(option: TyperOption) -> list[str]:
    """The values of an option that has but a few."""
    kind: Any = option.type_descriptor.annotation
    return list(get_args(kind)) if get_origin(kind) is Literal else []


def policy_key(command: TyperCommand, option: TyperOption) -> str | None:
    """`section.key` of the policy that decides where the option is not given."""
    name = option.opts[0].removeprefix("--")
    reads_policy = any("--policy" in each.opts for each in command.params)
    if not reads_policy or option.required or option.default is not None:
        return None
    known = OTHER_KEYS.get(name) or name.replace("-", "_")
    return next((key for key in policy_keys() if known in (key, key.partition(".")[2])), None)


def policy_keys() -> list[str]:
    return [f"{name}.{each.name}" for name, kind in SECTIONS.items() for each in dataclasses.fields(kind)]


def policy_default(key: str) -> object:
    name, _, field = key.partition(".")
    return getattr(SECTIONS[name](), field)


def section(name: str, kind: type) -> str:
    written, types = read_descriptions(kind), get_type_hints(kind)
    rows = [
        (code(each.name), kind_of(types[each.name]), toml(each.default), written.get(each.name, ""))
        for each in dataclasses.fields(kind)
    ]
    about = sentence(" ".join(cleandoc(kind.__doc__ or "").split()).partition(": ")[2])
    about = about[:1].upper() + about[1:]
    return f"## `[{name}]`\n\n{linked(about)}\n\n{table(('Key', 'Type', 'Default', 'Meaning'), rows)}"


def kind_of(annotation: Any) -> str:  # noqa: ANN401 - a type as `get_type_hints` gives it
    if get_origin(annotation) is Literal:
        return either(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return kind_of(next(each for each in get_args(annotation) if each is not NoneType))
    return KINDS[annotation]


def exit_codes() -> str:
    """The two of signals last."""
    passes = "The model passes the policy; or it failed, the repair passes, and it is accepted and where it should be."
    return table(
        ("Code", "Meaning"), [(str(number), text) for number, text in ({0: passes} | outputs.FAILURE_TEXTS).items()]
    )


def of_action(heading: str, entries: dict[str, dict[str, str]]) -> str:
    return table((heading, "Meaning"), [(code(name), entry["description"]) for name, entry in entries.items()])


def shown(value: object) -> str:
    """The default of an option, empty where there is none."""
    if value is None or isinstance(value, bool):
        return "on" if value else ""
    return code(str(value))


def toml(value: object) -> str:
    """The default of a key as a policy would have it."""
    return "" if value is None else code(json.dumps(value))


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def either(values: Sequence[str]) -> str:
    *first, last = map(code, values)
    return f"{', '.join(first)} or {last}"


def sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "?")) or not text else f"{text}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
