"""Runs the Action in the image, like a GitHub runner runs a container action.

Follows ContainerActionHandler.cs of actions/runner: uid 0, the workspace as working directory, HOME in a folder of the
runner, and every input as an environment variable, empty if the workflow does not set it.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from scripts.image_check.engine import PLAIN, Engine, mounts
from scripts.image_check.steps import HERE, expect
from tests.action.workflow_runner import Runner, parse_outputs

ROOT = Path(__file__).parents[2]
TOKEN = "hf_of_the_check"  # noqa: S105 - not a real token


@dataclass(frozen=True)
class Case:
    """A step of a workflow and its expected result."""

    name: str
    inputs: Mapping[str, str]
    exit_code: int
    verdict: str
    environment: Mapping[str, str] = field(default_factory=dict)


COMMON = {"policy": "check/policy.toml", "hf-token": TOKEN}
REFERENCE = {"command": "evaluate", "model": "models/reference", **COMMON}
ADAPTER = {"model": "models/finetune", "reference": "models/reference", "publish": "none", **COMMON}
"""Resumes the run that SIGTERM interrupted."""
NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_HUB_PATIENCE": "1"}

CASES = (
    Case("pass", REFERENCE, 0, "pass"),
    Case("repaired", ADAPTER, 0, "repaired"),
    Case("fail", {**REFERENCE, "model": "models/finetune", "reference": "models/reference"}, 1, "fail"),
    Case("inconclusive", {**REFERENCE, "threshold": "0.08"}, 4, "inconclusive"),
    Case("wrong input", {**ADAPTER, "threshold": "high"}, 2, ""),
    Case("no Hub", {**COMMON, "model": "org/model"}, 3, "", NO_HUB),
)


def run_case(engine: Engine, work: Path, case: Case) -> str:
    """Check exit code, outputs, summary, the single error annotation of a failure, and that no token is in the log."""
    commands = work / "file_commands" / uuid.uuid4().hex
    commands.mkdir(parents=True)
    output, summary = commands / "set_output", commands / "step_summary"
    output.touch()
    summary.touch()
    completed = engine.run(PLAIN, options=[*_options(work, commands, case)])
    runner = Runner()
    runner.read(completed.stdout + completed.stderr)
    log = f"exit {completed.returncode}\n{completed.stdout}{completed.stderr}"
    expect(completed.returncode == case.exit_code, log)
    outputs = dict(parse_outputs(output.read_text(encoding="utf-8")))
    expect(outputs["exit-code"] == str(case.exit_code) and outputs["verdict"] == case.verdict, str(outputs))
    reported = bool(outputs["report-json"])
    expect(reported == bool(case.verdict), str(outputs))
    if reported:
        expect((work / "workspace" / outputs["report-json"]).is_file(), str(outputs))
    expect((summary.stat().st_size > 0) == reported, f"a summary of {summary.stat().st_size} bytes")
    errors = [text for name, text in runner.obeyed if name == "error"]
    expect(len(errors) == (1 if case.exit_code else 0), f"errors: {errors}")
    expect(TOKEN in runner.masks and not any(TOKEN in line for line in runner.shown), "the token is in the log")
    return f"exit {completed.returncode}, verdict {case.verdict or 'none'}, summary of {summary.stat().st_size:,} bytes"


def _options(work: Path, commands: Path, case: Case) -> list[str]:
    names = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["inputs"]
    inputs = {f"INPUT_{name.upper()}": case.inputs.get(name, "") for name in names}
    github = {
        "HOME": "/github/home",
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": "/github/workspace",
        "GITHUB_OUTPUT": "/github/file_commands/set_output",
        "GITHUB_STEP_SUMMARY": "/github/file_commands/step_summary",
    }
    environment = {**inputs, "INPUT_OUT": f"out-{case.name.replace(' ', '-')}", **github, **case.environment}
    volumes = {
        "/github/home": work / "home",
        "/github/workspace": work / "workspace",
        "/github/file_commands": commands,
        "/cache": work / "cache",
        "/cache/answers": work / "workspace" / "demo" / "answers",
    }
    return [
        "--network=none",
        "--workdir=/github/workspace",
        *(f"--env={name}={value}" for name, value in environment.items()),
        *mounts(volumes),
        f"--volume={HERE}:/github/workspace/check:ro",
    ]
