"""Documents must stay true: links lead somewhere, exit codes and options are those of the code."""

import re
from pathlib import Path

import pytest

from antidote_ci import cli, errors

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")] + sorted(ROOT.glob("docs/*.md"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_that_are_named_exist(document: Path) -> None:
    import typer

    groups = [typer.main.get_group(app) for app in (cli.app, cli.judge_app)]
    commands = [command for group in groups for command in group.commands.values()]
    known = {name for command in commands for parameter in command.params for name in parameter.opts}
    for line in document.read_text().splitlines():
        if "antidote-ci " in line and "docker" not in line:
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line):
                assert option in known | {"--help", "--version"}, option


def test_the_readme_names_every_exit_code() -> None:
    rows = re.findall(r"^\| (\d) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert rows == list("01234567")
    classes = (
        errors.ConfigurationError,
        errors.InfrastructureError,
        errors.PublishConflict,
        errors.UnsafeCheckpoint,
    )
    assert {str(each.exit_code) for each in classes} <= set(rows)


def test_rooms_on_the_map_exist() -> None:
    for name in re.findall(r"`(antidote_ci/[\w/.]+|action/|templates/)`", (ROOT / "ARCHITECTURE.md").read_text()):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(tests/[\w/.]+)`", (ROOT / "ARCHITECTURE.md").read_text()):
        assert (ROOT / name).exists(), name
