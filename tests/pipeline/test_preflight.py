"""What needs no network is refused before the first request, in a dry run too."""

import json
import os
from pathlib import Path

import pytest

from antidote_ci.errors import ConfigurationError
from antidote_ci.pipeline import preflight
from antidote_ci.policy import EvaluationSection, Policy, RunConfig
from tests.command_line import FinishedCommand, run_command

HARMFUL = "--prompts=embedded"
SMALL = (HARMFUL, "--judge=refusal")
TASK = {"prompt": "1 + 1?", "expected": "2"}

REFUSED = {
    "no address of a judge": ([HARMFUL, "--judge=endpoint"], "the judge endpoint has no address"),
    "no folder of a judge": ([HARMFUL, "--judge=qwen3guard@./nowhere"], "there is no folder ./nowhere"),
    "no reference": ([*SMALL, "--reference=./nowhere"], "there is no folder ./nowhere"),
    "no calibration": ([*SMALL, "--calibration=nowhere.json"], "there is no calibration nowhere.json"),
    "no task": (["--judge=refusal", "--task=nowhere.jsonl"], "nowhere.jsonl cannot be read"),
    "no realignment": (["--judge=refusal", "--realignment=nowhere.jsonl"], "nowhere.jsonl cannot be read"),
    "a task without answers": (["--judge=refusal", "--task=task.jsonl"], "no text in the field 'expected'"),
    "no folder for answers": ([*SMALL, "--save-answers=nowhere/answers.jsonl"], "nowhere/answers.jsonl cannot be"),
    "a folder for answers": ([*SMALL, "--save-answers=folder"], "folder cannot be written"),
    "another file for answers": ([*SMALL, "--save-answers=task.jsonl"], "task.jsonl exists and holds no saved answers"),
    "no folder for test results": ([*SMALL, "--junit=nowhere/junit.xml"], "nowhere/junit.xml cannot be written"),
    "a folder for test results": ([*SMALL, "--junit=folder"], "folder cannot be written"),
    "another file for test results": ([*SMALL, "--junit=task.jsonl"], "task.jsonl exists and holds no test results"),
    "the report for test results": ([*SMALL, "--junit=antidote-out/report.json"], "is inside --out antidote-out"),
    "no server": ([*SMALL, "--server=nowhere {model} {port}"], "the server program nowhere was not found"),
    "a server without a port": ([*SMALL, "--server=python {model}"], "the server command lacks {port}"),
    "a link as output": ([*SMALL, "--out=link"], "the folder link cannot be written"),
    "a loop as output": ([*SMALL, "--out=loop"], "the folder loop cannot be written"),
    "a long name as output": ([*SMALL, f"--out={'a' * 300}"], "cannot be written"),
    "a file as output": ([*SMALL, "--out=task.jsonl/out"], "task.jsonl is a file"),
    "no revision": ([*SMALL, "--revision=a", "org/model@b"], "two revisions of org/model"),
}
"""Options and the message."""
PUBLISHED = {
    "a repository": ["--publish=repo", "--publish-to=not a name"],
    "a branch": ["--publish=branch", "--publish-to=not a name"],
    "a branch of dots": ["--publish=branch", "--publish-to=a..b"],
}
RUN_ONLY = ("no realignment",)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "removed" / "out")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "task.jsonl").write_text(json.dumps({"prompt": "1 + 1?"}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cli(command: str, *arguments: str, **environment: str) -> FinishedCommand:
    """Run a command whose Hub does not answer: exit code 3 means that it was asked."""
    options = [] if "--judge=endpoint" in arguments or command == "evaluate" else ["--threshold=0.4"]
    if HARMFUL in arguments and command != "evaluate":
        options.append("--realignment=embedded")
    model = [] if any(argument.startswith("org/") for argument in arguments) else ["org/model"]
    own = {"HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_HUB_RETRY_SECONDS": "0", "HF_TOKEN": "hf_x"}
    dry = ["--dry-run"] if command == "dry-run" else []
    name = "run" if command == "dry-run" else command
    return run_command(name, *options, *arguments, *model, *dry, **own | environment)


@pytest.mark.parametrize(
    ("command", "case"),
    [
        (command, case)
        for command in ("run", "evaluate", "dry-run")
        for case in REFUSED
        if command != "evaluate" or case not in RUN_ONLY
    ],
)
def test_invalid_settings_are_refused_before_the_first_request(here: Path, command: str, case: str) -> None:
    options, message = REFUSED[case]
    before = sorted(here.iterdir())
    done = cli(command, *options)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "pull the" not in done.stderr
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize("command", ["run", "dry-run"])
@pytest.mark.parametrize("case", PUBLISHED)
def test_invalid_destinations_are_refused_before_the_first_request(here: Path, command: str, case: str) -> None:
    done = cli(command, *SMALL, *PUBLISHED[case])
    assert done.returncode == 2, done.stderr
    assert "is not the name of a" in done.stderr


def test_valid_destinations_are_asked_for(here: Path) -> None:
    for options in (["--publish=repo", "--publish-to=org/other"], ["--publish=branch", "--publish-to=a/b-c.d"]):
        assert cli("dry-run", *SMALL, *options).returncode == 3


@pytest.mark.parametrize("command", ["run", "dry-run"])
def test_a_run_that_publishes_needs_a_token_first(here: Path, command: str) -> None:
    tokens = {"HF_TOKEN": "", "HF_WRITE_TOKEN": "", "HF_OIDC_RESOURCE": ""}
    done = cli(command, *SMALL, "--publish=pull-request", **tokens)
    assert done.returncode == 3
    assert "publishing requires a token" in done.stderr
    assert "read the prompts" not in done.stderr


def test_a_token_with_spaces_and_a_cache_that_is_a_file_are_refused_first(here: Path) -> None:
    assert "HF_TOKEN contains characters" in cli("evaluate", *SMALL, HF_TOKEN="hf_a b").stderr
    assert f"{os.devnull} cannot be written" in cli("evaluate", *SMALL, ANTIDOTE_CACHE=os.devnull).stderr
    assert cli("evaluate", *SMALL, "--no-cache", ANTIDOTE_CACHE=os.devnull).returncode == 3


def test_a_calibration_of_another_judge_is_refused_first(here: Path) -> None:
    (here / "calibration.json").write_text("{}")
    assert "is not a calibration" in cli("evaluate", *SMALL, "--calibration=calibration.json").stderr


def test_a_local_model_has_no_revision(here: Path) -> None:
    done = run_command("evaluate", "./folder", "--revision=main", *SMALL)
    assert done.returncode == 2
    assert "./folder is a local folder, so it has no revision main" in done.stderr
    assert "read the prompts" not in done.stderr
    done = run_command("evaluate", "http://127.0.0.1:9/v1", "--revision=main", *SMALL)
    assert "is a server, so it has no revision main" in done.stderr


def test_a_job_needs_no_server_on_this_machine(here: Path) -> None:
    """Its image has the program."""
    evaluation = EvaluationSection("refusal", prompts="embedded", server="nowhere {model} {port}")
    config = RunConfig("org/model", None, Policy(evaluation=evaluation), here / "out")
    assert len(preflight.check_configuration(config, "evaluate", here=False)) == 1
    with pytest.raises(ConfigurationError, match="was not found"):
        preflight.check_configuration(config, "evaluate")


def test_a_job_needs_an_image_first(here: Path) -> None:
    done = cli("evaluate", *SMALL, "--on=hf-jobs", HF_JOBS_TOKEN="hf_x")
    assert "a Job needs an image" in done.stderr
