"""What documents say in tables is what the code does; the ways in call the same things by the same names."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from typer.core import TyperCommand, TyperOption

from action import inputs, outputs
from antidote_ci import errors
from antidote_ci.cli.scaffold import read_descriptions
from antidote_ci.hub.client import SECRETS
from antidote_ci.pipeline.output import to_exit_code
from antidote_ci.policy import SECTIONS
from antidote_ci.records import RunVerdict
from scripts import tables

ROOT = Path(__file__).parent.parent
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
COMMANDS: dict[str, TyperCommand] = dict(tables.commands())
OPTIONS = {
    path: {option.opts[0].removeprefix("--"): option for option in tables.options(command)}
    for path, command in COMMANDS.items()
}
EACH_OPTION = [
    pytest.param(path, option, id=f"{path} {option.opts[0]}") for path in COMMANDS for option in OPTIONS[path].values()
]
SHARED = sorted(set(OPTIONS["run"]) & set(ACTION["inputs"]))
NOT_OF_THE_ACTION = {"json"}
"""Outputs and the report's files say it."""
PAGE = (ROOT / "docs" / "commands.md").read_text()

VARIABLE = re.compile(r"(HF|ANTIDOTE|ACTIONS|XDG|WEBHOOK)_[A-Z_]+")
OF_CHILDREN = {
    *("HF_HOME", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN"),
    *("HF_DEACTIVATE_ASYNC_LOAD", "HF_HUB_DISABLE_XET"),
}
"""Set for processes that we start, never read."""
OF_OTHERS = {
    *("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL"),
    *("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "HOME"),
    *("WEBHOOK_PAYLOAD", "WEBHOOK_REPO_ID", "WEBHOOK_REPO_TYPE", "WEBHOOK_ID", "WEBHOOK_SECRET"),
}
"""Set by GitHub, by the Hub, or by the system."""
BETWEEN_US = {"ANTIDOTE_ENVIRONMENT_DESCRIPTOR", "ANTIDOTE_STEP_MARK", "ANTIDOTE_JOB_LUGGAGE", "ANTIDOTE_JOB_TOKEN"}
"""Set by one process of ours for another."""


@pytest.mark.parametrize("document", tables.DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_those_of_the_code(document: Path) -> None:
    assert document.read_text() == tables.filled(document.read_text()), "run `python -m scripts.tables`"


def test_every_table_stands_somewhere_and_every_marker_has_its_end() -> None:
    written = "\n".join(document.read_text() for document in tables.DOCUMENTS)
    begun, ended = (re.findall(rf"^<!-- {slash}([a-z-]+) -->$", written, re.MULTILINE) for slash in ("", "/"))
    assert begun == ended
    assert set(begun) == set(tables.tables())


def test_a_table_that_nobody_knows_is_not_kept() -> None:
    with pytest.raises(KeyError):
        tables.filled("<!-- weather -->\n<!-- /weather -->")


def test_a_drift_is_named_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_an_option_has_its_sentence_and_its_variable(path: str, option: TyperOption) -> None:
    assert option.help
    if option.envvar is not None:
        assert option.envvar == "ANTIDOTE_" + option.opts[0].removeprefix("--").replace("-", "_").upper()


def test_every_key_of_the_policy_is_explained() -> None:
    for name, kind in SECTIONS.items():
        written = read_descriptions(kind)
        assert [f"{name}.{key}" for key in get_type_hints(kind) if key not in written] == []


@pytest.mark.parametrize("path", ["run", "evaluate"])
def test_an_option_without_a_default_has_the_policy_s(path: str) -> None:
    """But for what speaks of one run alone."""
    options = OPTIONS[path]
    of_a_key = {name for name, option in options.items() if tables.policy_key(COMMANDS[path], option)}
    own = {name for name, option in options.items() if option.default is not None}
    assert set(options) - of_a_key - own == {"revision", "policy", "save-answers"}
    for name in of_a_key:
        key = tables.policy_key(COMMANDS[path], options[name])
        assert key is not None
        section, _, field = key.partition(".")
        allowed = get_args(get_type_hints(SECTIONS[section])[field])
        if values := tables.choices(options[name]):
            assert tuple(values) == allowed


def test_the_action_has_the_options_of_run_and_evaluate() -> None:
    assert set(OPTIONS["run"]) >= set(OPTIONS["evaluate"])
    assert set(ACTION["inputs"]) - {"command", "model", *inputs.TOKENS} == set(OPTIONS["run"]) - NOT_OF_THE_ACTION


@pytest.mark.parametrize("name", SHARED)
def test_an_input_says_what_its_option_says(name: str) -> None:
    option, said = OPTIONS["run"][name], ACTION["inputs"][name]["description"]
    assert said.endswith("Command run only.") == (name not in OPTIONS["evaluate"])
    for value in tables.choices(option):
        assert re.search(rf"(?<![\w-]){value}(?![\w-])", said), value
    key = tables.policy_key(COMMANDS["run"], option)
    default = tables.policy_default(key) if key else option.default
    named = re.search(r"Empty: (.*?)\.( |$)", said)
    if named is not None:
        assert tables.shown(default) == f"`{named[1]}`"


def test_exit_codes_are_those_of_the_code() -> None:
    def classes(kind: type[BaseException]) -> Iterator[type[BaseException]]:
        yield kind
        for each in kind.__subclasses__():
            yield from classes(each)

    of_errors = {each.exit_code for each in classes(errors.AntidoteError) if issubclass(each, errors.AntidoteError)}
    of_verdicts = {to_exit_code(verdict, accepted=yes) for verdict in get_args(RunVerdict) for yes in (True, False)}
    of_signals = {130, errors.Terminated.exit_code}
    named = {int(code) for code in re.findall(r"^\| (\d+) \|", tables.tables()["exit-codes"], re.MULTILINE)}
    assert named == {0, *outputs.FAILURE_TEXTS} == of_errors | of_verdicts | of_signals


def read_by_the_code() -> set[str]:
    """Names of variables: those that look like one of ours or the Hub's, and whatever is asked of an environment."""
    found = set()
    for path in [*ROOT.glob("antidote_ci/**/*.py"), *ROOT.glob("action/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Constant(value=str(name)) if VARIABLE.fullmatch(name):
                    found.add(name)
                case (
                    ast.Subscript(value=environment, slice=ast.Constant(value=str(name)))
                    | ast.Call(
                        func=ast.Attribute(value=environment, attr="get"), args=[ast.Constant(value=str(name)), *_]
                    )
                    | ast.Compare(left=ast.Constant(value=str(name)), comparators=[environment])
                ) if ast.unparse(environment).endswith("environ"):
                    found.add(name)
    return found


def test_every_variable_that_is_read_is_explained() -> None:
    explained = {match.group(1) for match in re.finditer(rf"`({VARIABLE.pattern})`", PAGE)}
    assert read_by_the_code() - OF_CHILDREN - OF_OTHERS - BETWEEN_US <= explained


def test_every_variable_that_is_explained_is_read() -> None:
    """In a table; what is said of the client's own is its to keep."""
    explained = {match.group(1) for match in re.finditer(rf"^\| `({VARIABLE.pattern})` \|", PAGE, re.MULTILINE)}
    assert len(explained) > 8
    assert explained <= read_by_the_code()


def test_a_variable_that_holds_a_secret_is_never_shown() -> None:
    secrets = PAGE.split("\n## Secrets\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", secrets, re.MULTILINE)) <= set(SECRETS)


def test_an_empty_variable_is_one_that_is_not_set(tmp_path: Path) -> None:
    empty = {option.envvar: "" for option in OPTIONS["run"].values() if isinstance(option.envvar, str)}
    command = ["run", "./nowhere", "--judge=refusal", "--prompts=embedded", "--realignment=embedded"]
    done = subprocess.run(
        [sys.executable, "-m", "antidote_ci", *command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | empty,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "there is no folder ./nowhere" in done.stderr
