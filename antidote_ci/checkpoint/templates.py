"""Chat templates, read but not rendered: how large they are, what they are called, and what they reach for.

A template is a program. The one that is used runs in a fork of the child (`model.templates`); the others of the
repository run where somebody else uses the result.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from antidote_ci.errors import UnsafeCheckpoint

MAX_BYTES = 64 << 10
"""Of one template; long ones have twenty thousand characters."""
MAX_TEMPLATES = 64
SETTINGS = "tokenizer_config.json"
PROCESSOR_TEMPLATE = "chat_template.json"

_NAME = re.compile(r"[\w][\w.\-]*", re.ASCII)
_FIELD = re.compile(r"\{([^{}]*)\}")
_STEPS = re.compile(r"[.\[\]!:]")


def require_safe_templates(folder: Path, names: list[str], settings: Mapping[str, Mapping[str, object]]) -> None:
    """Raise UnsafeCheckpoint for a template of `folder` that is too large, or reaches for Python's own attributes.

    `settings` holds the configuration files by name. What the templates do beyond that is seen when they are rendered.
    """
    found = [*_templates_in_files(folder, names), *_templates_in_settings(settings)]
    if len(found) > MAX_TEMPLATES:
        raise _template_error(found[-1][0], f"is one of {len(found):,} chat templates, more than {MAX_TEMPLATES}")
    for where, text in found:
        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            raise _template_error(where, f"holds a chat template of more than {MAX_BYTES:,} bytes")
        reached = _find_unsafe_access(where, text)
        if reached is not None:
            raise _template_error(where, f"holds a chat template that reaches for {reached!r:.60}")


def _templates_in_files(folder: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if name.endswith(".jinja"):
            with (folder / name).open("rb") as file:
                yield name, file.read(MAX_BYTES + 1).decode("utf-8", "replace")


def _templates_in_settings(settings: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, str]]:
    for where in (SETTINGS, PROCESSOR_TEMPLATE):
        value = settings.get(where, {}).get("chat_template")
        match value:
            case None:
                continue
            case str():
                yield where, value
            case dict():
                yield from (_name_template(where, name, text) for name, text in value.items())
            case list() if all(isinstance(each, dict) for each in value):
                yield from (_name_template(where, each.get("name"), each.get("template")) for each in value)
            case _:
                raise _template_error(where, "has a chat_template that is no text")


def _name_template(where: str, name: object, text: object) -> tuple[str, str]:
    # Saved again, each becomes a file of its name.
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _template_error(where, f"has a chat_template with the name {name!r:.60}, which is none")
    if not isinstance(text, str):
        raise _template_error(where, f"has a chat_template {name!r:.60} that is no text")
    return where, text


def _find_unsafe_access(where: str, text: str) -> str | None:
    """The first attribute or filter that leads from a template's texts to Python; None for a template with none."""
    try:
        tree = _create_parser().parse(text)
        found = list(tree.find_all((nodes.Getattr, nodes.Const, nodes.Filter)))
    except TemplateSyntaxError:
        return None  # it cannot be rendered either
    except ValueError as error:  # a number of thousands of digits
        raise _template_error(where, f"holds a chat template that cannot be read: {error}") from None
    except RecursionError:
        raise _template_error(where, "holds a chat template that nests without bounds") from None
    for node in found:
        match node:
            case nodes.Getattr(attr=name) if name.startswith("__"):
                return name
            case nodes.Filter(name="attr"):
                return "attr"
            case nodes.Const(value=str() as value) if _is_path_into_python(value):
                return value
    return None


def _is_path_into_python(text: str) -> bool:
    """Whether it is a path like `a.__class__`, or a format with one: `{0.__class__}`; not whether it speaks of one."""
    paths = _FIELD.findall(text) if any(map(str.isspace, text)) else [text, *_FIELD.findall(text)]
    steps = [step for path in paths for step in _STEPS.split(path)]
    return any(len(step) > 4 and step.startswith("__") and step.endswith("__") for step in steps)


@functools.cache
def _create_parser() -> Environment:
    return Environment(extensions=[loopcontrols, _GenerationExtension])  # noqa: S701 - nothing is rendered


class _GenerationExtension(Extension):
    """The block by which transformers marks what an assistant said."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own form

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _template_error(where: str, what: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{where} {what}",
        cause="a chat template writes the turns of a conversation, and needs none of it",
        hint=f"correct the chat template in {where}",
    )
