"""Check that links, commands, options, policies, exit codes and glossary entries in the documents match the code."""

import dataclasses
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
import yaml
from typer.core import TyperCommand, TyperGroup

from antidote_ci import cli, errors
from antidote_ci.policy import read_policy
from antidote_ci.records import Report
from scripts import tables

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")] + sorted(ROOT.glob("docs/*.md"))
GUIDES = ("github-action.md", "docker.md", "hf-jobs.md", "webhook.md", "service.md")
HISTORY = "CHANGELOG.md"
"""Names commands of earlier versions."""

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:(?<=\n\n)(?: {4}.*\n)+)")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PROGRAM = re.compile(r"(?:\S*/)?antidote-ci(?:[:@]\S+)?")
"""The program, or a container image of it."""
GLOBAL_OPTIONS = {"--help", "--version", "--install-completion"}


@dataclass(frozen=True)
class CommandLine:
    """An `antidote-ci` command line in a document."""

    line: str
    arguments: list[str]
    """The words after `antidote-ci`."""
    is_complete: bool
    """True for a line to copy; False for a mention in running text, which may leave out required arguments."""


def read(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def without_code_blocks(text: str) -> str:
    return INDENTED.sub("", FENCE.sub("", text))


def find_command_lines(text: str) -> Iterator[CommandLine]:
    blocks = [match[3] for match in FENCE.finditer(text)] + INDENTED.findall(FENCE.sub("", text))
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            yield from parse_line(re.sub(r"^\s*(?:- )?(?:run: |\$ )?", "", line), is_complete=True)
    for span in INLINE.findall(without_code_blocks(text)):
        yield from parse_line(span, is_complete=False)


def parse_line(line: str, *, is_complete: bool) -> Iterator[CommandLine]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # not a shell command
        return
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        del words[0]
    start = 0
    if words[:2] in (["docker", "run"], ["podman", "run"]):
        images = (i for i, word in enumerate(words) if PROGRAM.fullmatch(word) and words[i - 1] != "--name")
        start = next(images, len(words))
        start += words[start + 1 : start + 2] == ["antidote-ci"]
    if words[start:] and PROGRAM.fullmatch(words[start]):
        yield CommandLine(line, words[start + 1 :], is_complete)


def find_error(command_line: CommandLine) -> str | None:
    """The reason why the program would reject the command line, or None."""
    command: object = typer.main.get_group(cli.app)
    words, path = command_line.arguments, "antidote-ci"
    while isinstance(command, TyperGroup):
        if not words or words[0] in GLOBAL_OPTIONS:
            return None
        if words[0] not in command.commands:
            return f"{path} has no command {words[0]}"
        path, command, words = f"{path} {words[0]}", command.commands[words[0]], words[1:]
    assert isinstance(command, TyperCommand)
    if "--help" in words:
        return None
    context = command.context_class(command, info_name=path)
    try:
        values, extra, _ = command.make_parser(context).parse_args(list(words))
    except Exception as error:  # noqa: BLE001 - any error of the parser
        return f"{path}: {error}"
    if extra:
        return f"{path} does not accept {extra}"
    missing = [
        parameter.name
        for parameter in command.params
        if parameter.required and values.get(parameter.name or "") is None
    ]
    return f"{path} requires {missing}" if command_line.is_complete and missing else None


def option_names() -> set[str]:
    return {name for _, command in tables.commands() for parameter in command.params for name in parameter.opts}


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub creates for the headings."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", read(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def report_fields(kind: Any, prefix: str = "") -> set[str]:  # noqa: ANN401 - a type as `get_type_hints` returns it
    """The dotted paths of all fields of a record."""
    paths = set()
    for record in [kind, *get_args(kind)]:
        if dataclasses.is_dataclass(record):
            for name, field_type in get_type_hints(record).items():
                paths |= {prefix + name} | report_fields(field_type, f"{prefix}{name}.")
    return paths


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_document_matches_the_code(document: Path, tmp_path: Path) -> None:
    """Links have targets, commands parse, options exist, policies are valid."""
    text = read(document)
    for target in LINK.findall(FENCE.sub("", text)):
        path, _, anchor = target.partition("#")
        if not path.startswith("https://"):
            linked = document.parent / path if path else document
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target
    if document.name == HISTORY:
        return
    assert [(line.line, error) for line in find_command_lines(text) if (error := find_error(line))] == []
    for line in without_code_blocks(text).splitlines():
        if "antidote-ci " in line and "docker" not in line:
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line):
                assert option in option_names() | GLOBAL_OPTIONS, option
    for number, block in enumerate(FENCE.finditer(text)):
        if block[2] == "toml":
            path = tmp_path / f"{number}.toml"
            path.write_text(textwrap.dedent(block[3]))
            read_policy(path)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("`antidote-ci runs`", "has no command runs"),
        ("`antidote-ci judge measure`", "has no command measure"),
        ("`antidote-ci run ORG/MODEL --treshold`", "--treshold"),
        ("```sh\nHF_TOKEN=x antidote-ci run ORG/MODEL --threshold\n```", "requires"),
        ("```sh\nantidote-ci run ORG/MODEL ORG/OTHER\n```", "does not accept"),
        ("```sh\nantidote-ci run --json\n```", "requires ['model']"),
        ("- a\n\n  ```sh\n  antidote-ci run --json\n  ```\n", "requires ['model']"),
        ("Say:\n\n    antidote-ci verify OUT \\\n      --dose 1\n", "--dose"),
        ("```sh\ndocker run --rm --volume a:b ghcr.io/o/antidote-ci@sha256:0 antidote-ci run A --dos 1\n```", "--dos"),
        ("```yaml\n- run: antidote-ci evaluate A --publish-to B\n```", "--publish-to"),
    ],
)
def test_invalid_command_line_is_detected(text: str, error: str) -> None:
    [line] = find_command_lines(text)
    assert error in str(find_error(line))


def test_valid_command_line_passes() -> None:
    text = "```sh\ndocker build -t antidote-ci .\ndocker run antidote-ci run A --json  # why\nantidote-ci --help\n```"
    assert [find_error(line) for line in find_command_lines(text)] == [None, None]


def test_every_document_is_reachable_from_the_readme() -> None:
    reached, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page in reached or page not in DOCUMENTS:
            continue
        reached.add(page)
        links = [target.partition("#")[0] for target in LINK.findall(read(page))]
        queue += [(page.parent / link).resolve() for link in links if link and not link.startswith("https://")]
    assert {path.name for path in DOCUMENTS} - {path.name for path in reached} == set()
    assert {f"docs/{name}" for name in GUIDES} <= set(LINK.findall(read(ROOT / "README.md")))


def test_readme_names_every_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \|", read(ROOT / "README.md"), re.MULTILINE)
    assert rows == [str(code) for code in sorted(errors.VERDICT_EXIT_CODES + errors.ERROR_EXIT_CODES)]


def test_paths_in_the_architecture_exist() -> None:
    text = read(ROOT / "ARCHITECTURE.md")
    folders = r"antidote_ci|action|templates|tests|demo|loopback_hub|benchmarks|scripts|image"
    for name in re.findall(rf"`((?:{folders})/[\w/.]*)`", text):
        assert (ROOT / name).exists(), name


def test_every_invariant_names_its_tests() -> None:
    text = read(ROOT / "ARCHITECTURE.md").partition("## Invariants")[2].partition("\n## ")[0]
    invariants = re.split(r"\n(?=\d+\. )", text)[1:]
    assert len(invariants) >= 17
    for invariant in invariants:
        assert re.search(r"`(?:tests/|pyproject)[\w/.]*`", invariant.partition("Tests:")[2]), invariant


def test_names_in_the_glossary_exist() -> None:
    rows = re.findall(r"^\| ([^|]+) \|.*\| ([^|]+) \|$", read(ROOT / "docs" / "glossary.md"), re.MULTILINE)[1:]
    outputs = yaml.safe_load(read(ROOT / "action.yml"))["outputs"]
    names = option_names() | set(tables.policy_keys()) | set(outputs) | report_fields(Report)
    assert len(rows) >= 12
    for term, places in rows:
        assert (quoted := re.findall(r"`([^`]+)`", places)), term
        assert set(quoted) - names == set(), term
