"""The command `init`: write a workflow, and a policy that lists every key, into a repository."""

import ast
import dataclasses
import inspect
import itertools
import json
import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import typer

from antidote_ci import ACTION as ACTION
from antidote_ci.cli.ending import handle_exit
from antidote_ci.errors import ConfigurationError
from antidote_ci.policy import SECTIONS, Policy
from antidote_ci.records import is_hub_id
from antidote_ci.report.text import link_documents

WORKFLOW = ".github/workflows/antidote.yml"
POLICY = "antidote.toml"
ANY_MODEL = "ORG/NAME"
TEMPLATE_ACTION = "OWNER/antidote-ci@COMMIT"
"""Placeholder of the Action in the template."""

UNCOMMENTED_KEYS = ("gate.harmful_score", "evaluation.judge", "evaluation.prompts")
"""Keys that are written without a `#`, because users change them first."""

_HEAD = """\
# Thresholds for the model, and settings of evaluation and repair. A key behind a `#` shows its
# default; a key without a value has no default. Command-line options and inputs of the Action
# override this file.
"""


def init(
    folder: Annotated[
        Path, typer.Argument(help="Root of your repository.", metavar="FOLDER", show_default=False)
    ] = Path(),
    model: Annotated[str | None, typer.Option("--model", help="ORG/NAME: default model of the workflow.")] = None,
) -> None:
    """Write a workflow and a commented antidote.toml into a repository. Existing files are never overwritten."""
    with handle_exit() as console:
        for path in write_scaffold(folder, model):
            console.print(f"wrote {path}")
        console.print("next: the comment at the top of the workflow lists the secrets that it needs")


def write_scaffold(folder: Path, model: str | None) -> list[Path]:
    """Write the workflow and the policy into `folder`, or neither, and return their paths.

    Raises ConfigurationError if one of them exists.
    """
    if model is not None and not is_hub_id(model):
        raise ConfigurationError(f"--model {model} is not a Hub id", hint="write ORG/NAME")
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder}", hint="name the root of your repository")
    texts = {folder / WORKFLOW: render_workflow(model), folder / POLICY: render_policy()}
    try:
        _write_new(texts)
    except FileExistsError as error:
        raise ConfigurationError(
            f"{error.filename} already exists", cause="init never overwrites a file", hint="move it away, or edit it"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be written", cause=error.strerror) from None
    return list(texts)


def render_workflow(model: str | None) -> str:
    """The workflow with `model` as its default, or with a placeholder. It has a schedule only with a model."""
    # Imported here, because it imports jinja2.
    from antidote_ci.report.rendering import find_template_folder

    template = (find_template_folder() / "init" / "antidote.yml").read_text(encoding="utf-8")
    if model is not None:
        template = template.replace("  # schedule:\n  #   - cron:", "  schedule:\n    - cron:")
    return template.replace(TEMPLATE_ACTION, ACTION).replace(ANY_MODEL, model or ANY_MODEL)


def render_policy() -> str:
    """A policy file that lists every key of policy.py with its description and default."""
    return _HEAD + "".join(_render_section(name, section) for name, section in SECTIONS.items())


def read_descriptions(section: type) -> dict[str, str]:
    """The docstring of every key of a section in policy.py, on one line."""
    (definition,) = ast.parse(inspect.getsource(section)).body
    descriptions = {}
    for pair in itertools.pairwise(getattr(definition, "body", ())):
        match pair:
            case ast.AnnAssign(target=ast.Name(key)), ast.Expr(ast.Constant(str(text))):
                descriptions[key] = " ".join(text.split())
    return descriptions


def _render_section(name: str, section: type) -> str:
    purpose = (section.__doc__ or "").removeprefix(f"`[{name}]`: ")
    descriptions, types = read_descriptions(section), get_type_hints(section)
    lines = ["", f"[{name}]", *_render_comment(purpose[0].upper() + purpose[1:])]
    for key, default in dataclasses.asdict(getattr(Policy(), name)).items():
        choices = get_args(types[key]) if get_origin(types[key]) is Literal else ()
        listed = f" One of {', '.join(choices)}." if choices else ""
        lines += ["", *_render_comment(descriptions[key] + listed), _render_key(name, key, default)]
    return "\n".join(lines) + "\n"


def _render_key(section: str, key: str, default: bool | int | float | str | None) -> str:
    """The line of a key. TOML has no null, so a key without a default has no value."""
    if default is None:
        return f"# {key} ="
    return f"{'' if f'{section}.{key}' in UNCOMMENTED_KEYS else '# '}{key} = {json.dumps(default)}"


def _render_comment(text: str) -> list[str]:
    return textwrap.wrap(
        link_documents(text),
        100,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _write_new(texts: dict[Path, str]) -> None:
    """Create all files, or none."""
    with ExitStack() as undo:
        for path, text in texts.items():
            for folder in reversed(path.parents):
                if not folder.exists():
                    folder.mkdir()
                    undo.callback(folder.rmdir)
            # "x" fails for an existing file and does not follow a link.
            with path.open("x", encoding="utf-8") as file:
                undo.callback(path.unlink)
                file.write(text)
        undo.pop_all()
