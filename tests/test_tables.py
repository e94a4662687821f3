"""The generated tables are current; command line, Action and policy use the same names and defaults."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from typer.core import TyperCommand, TyperOption

from action import inputs, outputs
from antidote_ci import errors
from antidote_ci.cli.init import read_descriptions
from antidote_ci.hub.client import SECRETS
from antidote_ci.pipeline.output import to_exit_code
from antidote_ci.policy import SECTIONS
from antidote_ci.records import RunVerdict
from scripts import tables

ROOT = Path(__file__).parent.parent
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
COMMANDS: dict[str, TyperCommand] = dict(tables.commands())


def listed_and_rare(command: TyperCommand) -> list[TyperOption]:
    return [*tables.options(command), *tables.options(command, hidden=True)]


OPTIONS = {
    path: {option.opts[0].removeprefix("--"): option for option in listed_and_rare(command)}
    for path, command in COMMANDS.items()
}
EACH_OPTION = [
    pytest.param(path, option, id=f"{path} {option.opts[0]}") for path in COMMANDS for option in OPTIONS[path].values()
]
SHARED = sorted(set(OPTIONS["run"]) & set(ACTION["inputs"]))
NOT_IN_THE_ACTION = {"json"}
"""The Action has outputs and report files instead."""
PAGE = (ROOT / "docs" / "commands.md").read_text()

VARIABLE = re.compile(r"(HF|ANTIDOTE|ACTIONS|XDG|WEBHOOK)_[A-Z_]+")
FOR_CHILDREN = {
    *("HF_HOME", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN"),
    *("HF_DEACTIVATE_ASYNC_LOAD", "HF_HUB_DISABLE_XET"),
}
"""Set for child processes, never read."""
EXTERNAL = {
    *("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL"),
    *("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "RUNNER_TEMP", "RUNNER_WORKSPACE"),
    *("GITHUB_API_URL", "GITHUB_EVENT_PATH", "GITHUB_REF", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_SERVER_URL"),
    "GITHUB_TOKEN",
    *("CUDA_VISIBLE_DEVICES", "HOME", "LD_LIBRARY_PATH"),
    *("WEBHOOK_PAYLOAD", "WEBHOOK_REPO_ID", "WEBHOOK_REPO_TYPE", "WEBHOOK_ID", "WEBHOOK_SECRET"),
}
"""Set by GitHub, by the Hub or by the system."""
INTERNAL = {"ANTIDOTE_ENVIRONMENT_DESCRIPTOR", "ANTIDOTE_STEP_MARK", "ANTIDOTE_JOB_FILES", "ANTIDOTE_JOB_TOKEN"}
"""Set by one antidote-ci process for another."""


@pytest.mark.parametrize("document", tables.DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_current(document: Path) -> None:
    assert document.read_text() == tables.fill_tables(document.read_text()), "run `python -m scripts.tables`"


def test_every_table_is_used_and_every_marker_is_closed() -> None:
    written = "\n".join(document.read_text() for document in tables.DOCUMENTS)
    opened, closed = (re.findall(rf"^<!-- {slash}([a-z-]+) -->$", written, re.MULTILINE) for slash in ("", "/"))
    assert opened == closed
    assert set(opened) == set(tables.tables())


def test_unknown_table_is_rejected() -> None:
    with pytest.raises(KeyError):
        tables.fill_tables("<!-- weather -->\n<!-- /weather -->")


def test_outdated_table_is_reported_and_updated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Mine\n\n<!-- exit-codes -->\nsomething old\n<!-- /exit-codes -->\n\nMine too\n")
    assert tables.main(["--check"], [page]) == 1
    assert "something old" in page.read_text()
    assert tables.main([], [page]) == 0
    assert capsys.readouterr().out == f"{page}\n" * 2
    assert tables.main(["--check"], [page]) == 0
    assert page.read_text().startswith("# Mine\n\n<!-- exit-codes -->\n| Code | Meaning |\n")
    assert page.read_text().endswith("\n<!-- /exit-codes -->\n\nMine too\n")


@pytest.mark.parametrize(("path", "option"), EACH_OPTION)
def test_option_has_help_and_a_consistent_variable(path: str, option: TyperOption) -> None:
    assert option.help
    if option.envvar is not None:
        assert option.envvar == "ANTIDOTE_" + option.opts[0].removeprefix("--").replace("-", "_").upper()


def test_every_policy_key_is_described() -> None:
    for name, kind in SECTIONS.items():
        descriptions = read_descriptions(kind)
        assert [f"{name}.{key}" for key in get_type_hints(kind) if key not in descriptions] == []


@pytest.mark.parametrize("path", ["run", "evaluate"])
def test_option_without_a_default_has_a_policy_key(path: str) -> None:
    """Except options that concern a single run."""
    options = OPTIONS[path]
    with_key = {name for name, option in options.items() if tables.policy_key(COMMANDS[path], option)}
    with_default = {name for name, option in options.items() if option.default is not None}
    assert set(options) - with_key - with_default == {"revision", "policy", "save-answers", "junit"}
    for name in with_key:
        key = tables.policy_key(COMMANDS[path], options[name])
        assert key is not None
        section, _, field = key.partition(".")
        allowed = get_args(get_type_hints(SECTIONS[section])[field])
        if values := tables.choices(options[name]):
            # An evaluation publishes nothing but its verdict.
            assert tuple(values) == (("none", "report") if (path, name) == ("evaluate", "publish") else allowed)


def test_action_has_the_options_of_run_and_evaluate() -> None:
    assert set(OPTIONS["run"]) >= set(OPTIONS["evaluate"])
    assert (
        set(ACTION["inputs"]) - {"command", "model", inputs.COMMENT, *inputs.TOKENS}
        == set(OPTIONS["run"]) - NOT_IN_THE_ACTION
    )


@pytest.mark.parametrize("name", SHARED)
def test_input_and_option_have_the_same_choices_and_default(name: str) -> None:
    option, description = OPTIONS["run"][name], ACTION["inputs"][name]["description"]
    assert description.endswith("Command run only.") == (name not in OPTIONS["evaluate"])
    for value in tables.choices(option):
        assert re.search(rf"(?<![\w-]){value}(?![\w-])", description), value
    key = tables.policy_key(COMMANDS["run"], option)
    default = tables.policy_default(key) if key else option.default
    match = re.search(r"Empty: (.*?)\.( |$)", description)
    if match is not None:
        assert tables.format_default(default) == f"`{match[1]}`"


def test_exit_codes_in_the_table_are_complete() -> None:
    def classes(kind: type[BaseException]) -> Iterator[type[BaseException]]:
        yield kind
        for subclass in kind.__subclasses__():
            yield from classes(subclass)

    of_errors = {kind.exit_code for kind in classes(errors.AntidoteError) if issubclass(kind, errors.AntidoteError)}
    of_verdicts = {
        to_exit_code(verdict, accepted=accepted) for verdict in get_args(RunVerdict) for accepted in (True, False)
    }
    assert of_errors == set(errors.ERROR_EXIT_CODES)
    assert of_verdicts == set(errors.VERDICT_EXIT_CODES)
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", tables.tables()["exit-codes"], re.MULTILINE)}
    assert documented == {0, *outputs.FAILURE_TEXTS} == of_errors | of_verdicts | set(errors.SIGNAL_EXIT_CODES)


@cache
def variables_in_the_code() -> set[str]:
    """Return constants with the form of a variable, and all names that are read from an environment."""
    names = set()
    for path in [*ROOT.glob("antidote_ci/**/*.py"), *ROOT.glob("action/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Constant(value=str(name)) if VARIABLE.fullmatch(name):
                    names.add(name)
                case (
                    ast.Subscript(value=environment, slice=ast.Constant(value=str(name)))
                    | ast.Call(
                        func=ast.Attribute(value=environment, attr="get"), args=[ast.Constant(value=str(name)), *_]
                    )
                    | ast.Compare(left=ast.Constant(value=str(name)), comparators=[environment])
                ) if ast.unparse(environment).endswith("environ"):
                    names.add(name)
    return names


def test_every_variable_is_documented() -> None:
    documented = {match.group(1) for match in re.finditer(rf"`({VARIABLE.pattern})`", PAGE)}
    assert variables_in_the_code() - FOR_CHILDREN - EXTERNAL - INTERNAL <= documented


def test_every_documented_variable_is_read() -> None:
    """Variables in the tables. The text also names variables of the Hub client."""
    documented = {match.group(1) for match in re.finditer(rf"^\| `({VARIABLE.pattern})` \|", PAGE, re.MULTILINE)}
    assert len(documented) > 8
    assert documented <= variables_in_the_code()


def test_documented_secrets_are_masked() -> None:
    secrets = PAGE.split("\n## Secrets\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", secrets, re.MULTILINE)) <= set(SECRETS)


def test_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    empty = {option.envvar: "" for option in OPTIONS["run"].values() if isinstance(option.envvar, str)}
    command = ["run", "./nowhere", "--judge=refusal", "--prompts=embedded", "--realignment=embedded"]
    completed = subprocess.run(
        [sys.executable, "-m", "antidote_ci", *command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | empty,
        check=False,
    )
    assert completed.returncode == 2, completed.stderr
    assert "there is no folder ./nowhere" in completed.stderr
