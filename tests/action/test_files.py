"""action.yml, the Dockerfile and the documentation say what the code does."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from action import inputs, outputs
from scripts import tables

ROOT = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
GUIDE = (ROOT / "docs" / "github-action.md").read_text()
DOCKER_GUIDE = (ROOT / "docs" / "docker.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def fenced(text: str, language: str) -> list[str]:
    """The blocks of one language in a Markdown text."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def table(text: str, heading: str) -> dict[str, str]:
    """The rows of the table under a heading: name without its code marks, description."""
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", section, re.MULTILINE))


def test_inputs_are_those_that_are_read() -> None:
    assert set(ACTION["inputs"]) == set(inputs.INPUTS)
    assert len(set(inputs.INPUTS)) == len(inputs.INPUTS)


def test_inputs_have_no_defaults_of_their_own() -> None:
    assert not [name for name, entry in ACTION["inputs"].items() if entry.get("default")]


def test_outputs_are_those_that_are_written() -> None:
    assert set(ACTION["outputs"]) == set(outputs.build_outputs(None, 0, ""))


def test_the_action_is_the_image() -> None:
    assert ACTION["runs"] == {"using": "docker", "image": "Dockerfile"}


@pytest.mark.parametrize("command", inputs.COMMANDS)
def test_every_option_of_the_command_line_is_an_input_and_no_other(command: str) -> None:
    parser = dict(tables.commands())[command]
    options = {option.opts[0]: option for hidden in (False, True) for option in tables.options(parser, hidden=hidden)}
    emitted = {f"--{name}" for name in (*inputs.OPTIONS, *inputs.FLAGS)}
    if command == "evaluate":
        emitted -= {f"--{name}" for name in inputs.RUN_ONLY}
    assert options.keys() - {"--json"} == emitted
    assert options["--out"].envvar == "ANTIDOTE_OUT"
    assert str(options["--out"].default) == inputs.DEFAULT_OUT


def test_the_guide_lists_inputs_and_outputs_in_the_actions_own_words() -> None:
    for kind in ("inputs", "outputs"):
        described = {name: entry["description"] for name, entry in ACTION[kind].items()}
        assert table(GUIDE, kind.capitalize()) == described


def test_the_guides_workflow_reads_in_one_job_and_writes_in_another() -> None:
    workflow = yaml.safe_load(fenced(GUIDE, "yaml")[0])
    assert workflow["permissions"] == {}
    given = {name: step for name, job in workflow["jobs"].items() for step in job["steps"] if is_ours(step)}
    assert list(given) == ["evaluate", "publish"]
    for name, job in workflow["jobs"].items():
        assert job["permissions"] == {"contents": "read"}
        assert set(given[name]["with"]) <= set(ACTION["inputs"])
    assert given["evaluate"]["with"]["command"] == "evaluate"
    assert [name for name, step in given.items() if "hf-write-token" in step["with"]] == ["publish"]


def test_the_guide_pins_every_action_to_a_commit() -> None:
    used = re.findall(r"uses: (\S+)", GUIDE)
    assert len(used) > 4
    for each in used:
        own = ("OWNER/antidote-ci@COMMIT", "./.github/workflows/antidote.yml")
        assert each in own or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", each)


def is_ours(step: dict[str, Any]) -> bool:
    return str(step.get("uses", "")).startswith("OWNER/antidote-ci@")


def test_the_docker_guide_names_tokens_and_never_their_values() -> None:
    assert "--env HF_TOKEN \\\n" in "".join(fenced(DOCKER_GUIDE, "sh"))
    assert not re.search(r"HF_(WRITE_)?TOKEN=", DOCKER_GUIDE)


def test_the_build_context_holds_what_the_dockerfile_copies_and_no_more() -> None:
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    copied = {source for line in lines for source in line.split()[:-1]}
    allowed = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert {source.split("/")[0] for source in copied} == {name.split("/")[0] for name in allowed}
    assert all((ROOT / name).exists() for name in copied | allowed)


def test_the_entry_point_is_an_absolute_exec_form_and_root_stays() -> None:
    assert re.search(r'^ENTRYPOINT \["/', DOCKERFILE, re.MULTILINE)
    assert not re.search(r"^USER ", DOCKERFILE, re.MULTILINE)
