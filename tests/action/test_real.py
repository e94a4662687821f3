"""The Action with the real command line: the log of an evaluation, and errors about inputs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.action.workflow_runner import Runner, parse_outputs

ROOT = Path(__file__).parents[2]


def act(folder: Path, **given: str) -> tuple[int, Runner, dict[str, str], str]:
    """Run the Action. Returns its exit code, the runner's state, the outputs and the summary."""
    environ = {f"INPUT_{name.upper()}": text for name, text in given.items()} | {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "HF_ENDPOINT": "http://127.0.0.1:1",
        "ANTIDOTE_HUB_RETRY_SECONDS": "1",
        "ANTIDOTE_CACHE": str(folder / "cache"),
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary"),
        "OMP_NUM_THREADS": "1",
    }
    workspace = folder / "workspace"
    workspace.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "action"]
    done = subprocess.run(command, env=environ, cwd=workspace, capture_output=True, timeout=240, check=False)
    assert done.stderr == b""
    runner = Runner()
    runner.read(done.stdout.decode())
    outputs = dict(parse_outputs((folder / "output").read_text()))
    summary = folder / "summary"
    return done.returncode, runner, outputs, summary.read_text() if summary.exists() else ""


def test_evaluation_has_groups_outputs_and_a_summary(trained_pair: Path, tmp_path: Path) -> None:
    code, runner, outputs, summary = act(
        tmp_path,
        command="evaluate",
        model=str(trained_pair / "merged"),
        prompts=str(trained_pair / "evaluation.jsonl"),
        judge="refusal",
        threshold="0.3",
    )
    assert code == 1, runner.shown
    folded = {name: lines for name, lines in runner.groups if name}
    assert list(folded) == ["read the prompts", "pull the model", "pull the judge", "evaluate the model"]
    for name, lines in folded.items():
        assert [line for line in lines if line.startswith(f"{name}: ")]
    assert [name for name, _ in runner.obeyed] == ["group", "endgroup"] * 4 + ["error"]
    assert outputs["verdict"] == "fail"
    assert float(outputs["harmful-score-before-lower"]) > 0.3
    assert float(outputs["harmful-score-before-lower"]) <= float(outputs["harmful-score-before"])
    assert "║" in summary
    assert summary.startswith("## antidote-ci: Fails\n")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"threshold": "abc"}, "'--threshold'"),
        ({"publish": "repo"}, "publish"),
        ({"judge": "nobody"}, "there is no judge 'nobody'"),
    ],
    ids=str,
)
def test_invalid_input_exits_2_with_an_annotation(tmp_path: Path, given: dict[str, str], message: str) -> None:
    (tmp_path / "workspace" / "model").mkdir(parents=True)
    valid = {"model": "./model", "judge": "refusal", "prompts": "embedded", "realignment": "embedded"}
    code, runner, outputs, _ = act(tmp_path, **valid | given)
    assert code == 2, runner.shown
    assert outputs["exit-code"] == "2"
    *_, (command, data) = runner.obeyed
    assert command == "error"
    assert message in data
    assert "hint: " in data
