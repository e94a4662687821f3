"""Documents must stay true: links lead somewhere; commands, options and exit codes are those of the code."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from antidote_ci import cli, errors
from antidote_ci.policy import read_policy
from scripts import tables

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")] + sorted(ROOT.glob("docs/*.md"))
WAYS_IN = ("github-action.md", "docker.md", "hf-jobs.md", "webhook.md", "service.md")

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:(?<=\n\n)(?: {4}.*\n)+)")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
OURS = re.compile(r"(?:\S*/)?antidote-ci(?:[:@]\S+)?")
"""The program, or an image of it."""


@dataclass(frozen=True)
class Shown:
    """A command line that a document shows."""

    line: str
    arguments: list[str]
    """What follows `antidote-ci`."""
    whole: bool
    """To be typed as it stands; else it only names a command."""


def read(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def prose(text: str) -> str:
    return INDENTED.sub("", FENCE.sub("", text))


def shown(text: str) -> Iterator[Shown]:
    blocks = [found[3] for found in FENCE.finditer(text)] + INDENTED.findall(FENCE.sub("", text))
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            yield from after_the_name(re.sub(r"^\s*(?:- )?(?:run: |\$ )?", "", line), whole=True)
    for span in INLINE.findall(prose(text)):
        yield from after_the_name(span, whole=False)


def after_the_name(line: str, *, whole: bool) -> Iterator[Shown]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a line of another language
        return
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        del words[0]
    at = 0
    if words[:2] in (["docker", "run"], ["podman", "run"]):
        at = next(
            (at for at, word in enumerate(words) if OURS.fullmatch(word) and words[at - 1] != "--name"), len(words)
        )
        at += words[at + 1 : at + 2] == ["antidote-ci"]
    if words[at:] and OURS.fullmatch(words[at]):
        yield Shown(line, words[at + 1 :], whole)


OWN = {"--help", "--version", "--install-completion"}
"""Options of the program itself."""


def flaw(shown: Shown) -> str | None:
    """What is wrong with a command line, if anything."""
    command: object = typer.main.get_group(cli.app)
    words, path = shown.arguments, "antidote-ci"
    while isinstance(command, TyperGroup):
        if not words or words[0] in OWN:
            return None
        if words[0] not in command.commands:
            return f"{path} has no command {words[0]}"
        path, command, words = f"{path} {words[0]}", command.commands[words[0]], words[1:]
    assert isinstance(command, TyperCommand)
    if "--help" in words:
        return None
    context = command.context_class(command, info_name=path)
    try:
        given, rest, _ = command.make_parser(context).parse_args(list(words))
    except Exception as error:  # noqa: BLE001 - whatever it does not like
        return f"{path}: {error}"
    if rest:
        return f"{path} knows nothing of {rest}"
    missing = [each.name for each in command.params if each.required and given.get(each.name or "") is None]
    return f"{path} needs {missing}" if shown.whole and missing else None


def headings(document: Path) -> set[str]:
    """As GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", read(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(FENCE.sub("", read(document))):
        path, _, anchor = target.partition("#")
        if path.startswith("https://"):
            continue
        other = document.parent / path if path else document
        assert other.exists(), target
        assert not anchor or anchor in headings(other), target


def test_every_document_is_found_from_the_readme() -> None:
    found, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in found or page not in DOCUMENTS:
            continue
        found.add(page)
        links = [target.partition("#")[0] for target in LINK.findall(read(page))]
        ahead += [(page.parent / link).resolve() for link in links if link and not link.startswith("https://")]
    assert {path.name for path in DOCUMENTS} - {path.name for path in found} == set()


def test_the_readme_leads_to_each_way_in() -> None:
    linked = set(LINK.findall(read(ROOT / "README.md")))
    assert {f"docs/{name}" for name in WAYS_IN} <= linked


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_that_are_shown_would_be_understood(document: Path) -> None:
    assert [(each.line, wrong) for each in shown(read(document)) if (wrong := flaw(each))] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`antidote-ci runs`", "has no command runs"),
        ("`antidote-ci judge measure`", "has no command measure"),
        ("`antidote-ci run ORG/MODEL --treshold`", "--treshold"),
        ("```sh\nHF_TOKEN=x antidote-ci run ORG/MODEL --threshold\n```", "requires"),
        ("```sh\nantidote-ci run ORG/MODEL ORG/OTHER\n```", "knows nothing of"),
        ("```sh\nantidote-ci run --json\n```", "needs ['model']"),
        ("- a\n\n  ```sh\n  antidote-ci run --json\n  ```\n", "needs ['model']"),
        ("Say:\n\n    antidote-ci verify OUT \\\n      --dose 1\n", "--dose"),
        ("```sh\ndocker run --rm --volume a:b ghcr.io/o/antidote-ci@sha256:0 antidote-ci run A --dos 1\n```", "--dos"),
        ("```yaml\n- run: antidote-ci evaluate A --publish none\n```", "--publish"),
    ],
)
def test_a_command_that_would_not_be_understood_is_seen(text: str, wrong: str) -> None:
    [found] = shown(text)
    assert wrong in str(flaw(found))


def test_a_command_that_would_be_understood_passes() -> None:
    text = "```sh\ndocker build -t antidote-ci .\ndocker run antidote-ci run A --json  # why\nantidote-ci --help\n```"
    assert [flaw(found) for found in shown(text)] == [None, None]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_beside_a_command_of_ours_exist(document: Path) -> None:
    """In prose, an option is named with its command or alone."""
    known = {name for _, command in tables.commands() for each in command.params for name in each.opts}
    for line in prose(read(document)).splitlines():
        if "antidote-ci " in line and "docker" not in line:
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line):
                assert option in known | OWN, option


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_policies_that_are_shown_would_be_taken(document: Path, tmp_path: Path) -> None:
    for at, found in enumerate(FENCE.finditer(read(document))):
        if found[2] == "toml":
            path = tmp_path / f"{at}.toml"
            path.write_text(textwrap.dedent(found[3]))
            read_policy(path)


def test_the_readme_names_every_exit_code() -> None:
    rows = re.findall(r"^\| (\d) \|", read(ROOT / "README.md"), re.MULTILINE)
    assert rows == list("01234567")
    classes = (
        errors.ConfigurationError,
        errors.InfrastructureError,
        errors.PublishConflict,
        errors.UnsafeCheckpoint,
    )
    assert {str(each.exit_code) for each in classes} <= set(rows)


def test_rooms_on_the_map_exist() -> None:
    text = read(ROOT / "ARCHITECTURE.md")
    for name in re.findall(r"`(antidote_ci/[\w/.]+|action/|templates/|tests/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name


def test_every_invariant_names_what_holds_it() -> None:
    text = read(ROOT / "ARCHITECTURE.md").partition("## Invariants")[2].partition("\n## ")[0]
    invariants = re.split(r"\n(?=\d+\. )", text)[1:]
    assert len(invariants) >= 17
    for invariant in invariants:
        held = re.findall(r"`((?:tests/|pyproject)[\w/.]*)`", invariant.partition("Held by")[2])
        assert held, invariant
        for name in held:
            assert (ROOT / name).exists(), name
