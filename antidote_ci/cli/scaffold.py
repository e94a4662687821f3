"""What `init` writes into a repository: a workflow, and a policy with every key in it."""

import ast
import dataclasses
import inspect
import itertools
import json
import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from antidote_ci.errors import ConfigurationError
from antidote_ci.identifiers import is_hub_id
from antidote_ci.policy import SECTIONS, Policy
from antidote_ci.report.rendering import find_template_folder

ACTION = "OWNER/antidote-ci@0000000000000000000000000000000000000000"
"""The Action that the workflow runs. A release puts its own repository and commit here: scripts/release."""

WORKFLOW = ".github/workflows/antidote.yml"
POLICY = "antidote.toml"
ANY_MODEL = "ORG/NAME"
TEMPLATE_ACTION = "OWNER/antidote-ci@COMMIT"
"""What stands in the template in place of a model and of the Action."""

UNCOMMENTED_KEYS = ("gate.harmful_score", "evaluation.judge", "evaluation.prompts")
"""What an owner decides first: written as it is, everything else behind a `#`."""

_HEAD = """\
# What a model must meet, and how it is measured and repaired. A key behind a `#` shows its default;
# one with nothing after its `=` has none. Options of the command line and inputs of the Action
# outrank what is written here.
"""


def write_scaffold(folder: Path, model: str | None) -> list[Path]:
    """Write both files into `folder`, or neither; where they are.

    Raises ConfigurationError where one of them already exists: nothing is ever overwritten.
    """
    if model is not None and not is_hub_id(model):
        raise ConfigurationError(f"--model {model} is no id of the Hub", hint="write ORG/NAME")
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder}", hint="name the root of your repository")
    texts = {folder / WORKFLOW: render_workflow(model), folder / POLICY: render_policy()}
    try:
        _write_new(texts)
    except FileExistsError as error:
        cause, hint = "init overwrites nothing", "move it aside, or edit it as it is"
        raise ConfigurationError(f"{error.filename} already exists", cause=cause, hint=hint) from None
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be written", cause=error.strerror) from None
    return list(texts)


def render_workflow(model: str | None) -> str:
    """The workflow, of any model or of the one that is named."""
    template = (find_template_folder() / "init" / "antidote.yml").read_text(encoding="utf-8")
    return template.replace(TEMPLATE_ACTION, ACTION).replace(ANY_MODEL, model or ANY_MODEL)


def render_policy() -> str:
    """Every key with its meaning and its default, as policy.py has them."""
    return _HEAD + "".join(_render_section(name, section) for name, section in SECTIONS.items())


def read_descriptions(section: type) -> dict[str, str]:
    """Key -> what policy.py says of it, on one line."""
    (definition,) = ast.parse(inspect.getsource(section)).body
    found = {}
    for pair in itertools.pairwise(getattr(definition, "body", ())):
        match pair:
            case ast.AnnAssign(target=ast.Name(key)), ast.Expr(ast.Constant(str(text))):
                found[key] = " ".join(text.split())
    return found


def _render_section(name: str, section: type) -> str:
    purpose = (section.__doc__ or "").removeprefix(f"`[{name}]`: ")
    said, types = read_descriptions(section), get_type_hints(section)
    lines = ["", f"[{name}]", *_render_comment(purpose[0].upper() + purpose[1:])]
    for key, default in dataclasses.asdict(getattr(Policy(), name)).items():
        choices = get_args(types[key]) if get_origin(types[key]) is Literal else ()
        listed = f" One of {', '.join(choices)}." if choices else ""
        lines += ["", *_render_comment(said[key] + listed), _render_key(name, key, default)]
    return "\n".join(lines) + "\n"


def _render_key(section: str, key: str, default: bool | int | float | str | None) -> str:
    """A key's line. TOML has no word for what is not set."""
    if default is None:
        return f"# {key} ="
    return f"{'' if f'{section}.{key}' in UNCOMMENTED_KEYS else '# '}{key} = {json.dumps(default)}"


def _render_comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _write_new(texts: dict[Path, str]) -> None:
    """All of them new, or nothing of any is left."""
    with ExitStack() as undo:
        for path, text in texts.items():
            for folder in reversed(path.parents):
                if not folder.exists():
                    folder.mkdir()
                    undo.callback(folder.rmdir)
            # "x": whoever else writes meanwhile keeps his file, and a link is not followed.
            with path.open("x", encoding="utf-8") as file:
                undo.callback(path.unlink)
                file.write(text)
        undo.pop_all()
