"""Static checks of chat templates: size, names, access to Python internals, chance and the date. Nothing is rendered.

A template is a program. The one in use is rendered in a fork of the child process (`model.conversations`); the others
run on the machines of those who use the result.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from jinja2 import Environment, TemplateSyntaxError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from antidote_ci.checkpoint.files import MAX_BYTES
from antidote_ci.checkpoint.template_dates import DateDecides, require_printed_dates
from antidote_ci.checkpoint.tokenizers import ADDED
from antidote_ci.errors import UnsafeCheckpoint

MAX_TEMPLATE_BYTES = MAX_BYTES[".jinja"]
"""Of one template, also of one in a configuration file. Long ones have twenty thousand characters."""
MAX_TEMPLATES = 64

_NAME = re.compile(r"[\w][\w.\-]*", re.ASCII)
_FIELD = re.compile(r"\{([^{}]*)\}")
_STEPS = re.compile(r"[.\[\]!:]")


def require_safe_templates(folder: Path, names: list[str], settings: Mapping[str, Mapping[str, object]]) -> None:
    """Raise UnsafeCheckpoint for a chat template of `folder` that is too large, accesses Python internals, or whose
    text is random or depends on the date by more than the printed date.

    `settings` holds the parsed configuration files by name. Loops and growth are detected when a template is rendered.
    """
    templates = [*_templates_in_files(folder, names), *_templates_in_settings(settings)]
    if len(templates) > MAX_TEMPLATES:
        problem = f"is one of {len(templates):,} chat templates, more than {MAX_TEMPLATES}"
        raise _template_error(templates[-1][0], problem)
    for file, text in templates:
        if len(text.encode("utf-8", "surrogatepass")) > MAX_TEMPLATE_BYTES:
            raise _template_error(file, f"holds a chat template of more than {MAX_TEMPLATE_BYTES:,} bytes")
        try:
            tree = _create_parser().parse(text)
            access = _find_unsafe_access(tree)
            if access is not None:
                raise _template_error(file, f"holds a chat template that reaches for {access!r:.60}")
            require_printed_dates(tree)
        except TemplateSyntaxError:
            continue  # it cannot be rendered either
        except ValueError as error:  # a number of thousands of digits
            raise _template_error(file, f"holds a chat template that cannot be read: {error}") from None
        except RecursionError:
            raise _template_error(file, "holds a chat template that nests without bounds") from None
        except DateDecides as error:
            raise UnsafeCheckpoint(
                f"{file} holds a chat template that uses the date {error}, and not only in its output",
                cause="on another date the model could get another prompt than the one that was measured",
                hint=f"correct the chat template in {file}: it may only print what strftime_now returns",
            ) from None


def find_arguments(template: str) -> frozenset[str]:
    """The names that a template reads and does not set itself; empty when it cannot be parsed."""
    try:
        return frozenset(meta.find_undeclared_variables(_create_parser().parse(template)))
    except (TemplateSyntaxError, ValueError, RecursionError):
        return frozenset()


def _templates_in_files(folder: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if name.endswith(".jinja"):
            with (folder / name).open("rb") as file:
                yield name, file.read(MAX_TEMPLATE_BYTES + 1).decode("utf-8", "replace")


def _templates_in_settings(settings: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, str]]:
    # tokenizer_config.json and chat_template.json are usual; processors also read one from their own configuration.
    for file, values in settings.items():
        value = values.get("chat_template") if file != ADDED else None
        match value:
            case None:
                continue
            case str():
                yield file, value
            case dict():
                yield from (_require_named(file, name, text) for name, text in value.items())
            case list() if all(isinstance(entry, dict) for entry in value):
                yield from (_require_named(file, entry.get("name"), entry.get("template")) for entry in value)
            case _:
                raise _template_error(file, "has a chat_template that is not a string")


def _require_named(file: str, name: object, text: object) -> tuple[str, str]:
    # transformers saves each named template as a file of that name.
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _template_error(file, f"has a chat_template with the invalid name {name!r:.60}")
    if not isinstance(text, str):
        raise _template_error(file, f"has a chat_template {name!r:.60} that is not a string")
    return file, text


def _find_unsafe_access(tree: nodes.Template) -> str | None:
    """Return the first name that reaches Python internals or chance; None when there is none."""
    for node in tree.find_all((nodes.Getattr, nodes.Const, nodes.Filter, nodes.Name)):
        match node:
            case nodes.Getattr(attr=str() as name) if name.startswith("__"):
                return name
            case nodes.Filter(name="attr" | "random" as name) | nodes.Name(name="lipsum" as name):
                return str(name)
            case nodes.Filter(name="map", args=[nodes.Const(value=name), *_]) if name in ("attr", "random"):
                return str(name)
            case nodes.Filter(name="map") if node.dyn_args or not all(
                isinstance(arg, nodes.Const) for arg in node.args[:1]
            ):
                return "map"
            case nodes.Const(value=str() as value) if _holds_dunder_path(value):
                return value
    return None


def _holds_dunder_path(text: str) -> bool:
    """Return whether a text is a path such as `a.__class__`, or has a format field `{0.__class__}`.

    A text with spaces is prose: only its format fields are searched.
    """
    fields = _FIELD.findall(text)
    paths = fields if any(map(str.isspace, text)) else [text, *fields]
    steps = [step for path in paths for step in _STEPS.split(path)]
    return any(len(step) > 4 and step.startswith("__") and step.endswith("__") for step in steps)


@functools.cache
def _create_parser() -> Environment:
    return Environment(extensions=[loopcontrols, _GenerationExtension])  # noqa: S701 - nothing is rendered


class _GenerationExtension(Extension):
    """The `generation` block, with which transformers marks the turns of the assistant."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own form

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _template_error(file: str, problem: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{file} {problem}",
        cause="a chat template formats the turns of a conversation, and needs none of this",
        hint=f"correct the chat template in {file}",
    )
