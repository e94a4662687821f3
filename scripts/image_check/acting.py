"""Runs the Action in the image as a GitHub runner does: single steps, and the workflow that `antidote-ci init` writes.

Two things differ from a runner: the network of the container, and the Docker socket, which is one that nobody serves.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from antidote_ci.cli.init import ACTION, POLICY, WORKFLOW, write_scaffold
from demo.main_job import ADAPTER as ADAPTER_ID
from demo.main_job import REFERENCE as REFERENCE_ID
from loopback_hub import LoopbackHub
from scripts.image_check.container_action import FILE_COMMANDS, RunnerFolders, build_docker_run
from scripts.image_check.engine import PLAIN, Engine
from scripts.image_check.expressions import fill, holds
from scripts.image_check.steps import HERE, StepFailed, expect
from tests.action.workflow_runner import Runner, parse_outputs

ROOT = Path(__file__).parents[2]
RUNNER_USER = 1001
"""User of a runner of GitHub. It has to read what the container, which is root, leaves behind."""
TOKEN = "hf_of_the_check"  # noqa: S105 - not a real token
WRITE_TOKEN = "hf_write_of_the_check"  # noqa: S105 - not a real token
SERVICE = {
    "ACTIONS_RUNTIME_URL": "http://127.0.0.1:9/",
    "ACTIONS_RUNTIME_TOKEN": "runtime_of_the_check",
    "ACTIONS_CACHE_URL": "http://127.0.0.1:9/",
    "ACTIONS_RESULTS_URL": "http://127.0.0.1:9/",
    "ACTIONS_ORCHESTRATION_ID": "of-the-check",
}


RunContainer = Callable[[Sequence[str], Mapping[str, str]], subprocess.CompletedProcess[str]]
"""Runs `docker run` with these arguments, and these variables of the docker client."""


@dataclass(frozen=True)
class Case:
    """A step of a workflow and its expected result."""

    name: str
    inputs: Mapping[str, str]
    exit_code: int
    verdict: str
    environment: Mapping[str, str] = field(default_factory=dict)


COMMON = {"policy": "check/policy.toml", "hf-token": TOKEN}
REFERENCE = {"command": "evaluate", "model": "./models/reference", **COMMON}
ADAPTER = {"model": "./models/finetune", "reference": "./models/reference", "publish": "none", **COMMON}
"""Resumes the run that SIGTERM interrupted."""
NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_HUB_RETRY_SECONDS": "1"}

CASES = (
    Case("pass", REFERENCE, 0, "pass"),
    Case("repaired", ADAPTER, 0, "repaired"),
    Case("fail", {**REFERENCE, "model": "./models/finetune", "reference": "./models/reference"}, 1, "fail"),
    Case("inconclusive", {**REFERENCE, "threshold": "0.08"}, 4, "inconclusive"),
    Case("wrong input", {**ADAPTER, "threshold": "high"}, 2, ""),
    Case("no Hub", {**COMMON, "model": "org/model"}, 3, "", NO_HUB),
)


@dataclass(frozen=True)
class ActionResult:
    """What a runner knows of a step after its container has ended."""

    exit_code: int
    outputs: Mapping[str, str]
    summary: str
    runner: Runner


@dataclass
class JobResult:
    """Status and outputs of a job, its artifacts (name -> file -> size in bytes), and the results of the Action."""

    status: str = "success"
    outputs: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, dict[str, int]] = field(default_factory=dict)
    actions: list[ActionResult] = field(default_factory=list)


def run_case(engine: Engine, work: Path, case: Case) -> str:
    """Check exit code, outputs, summary, the single error annotation of a failure, and that no token is in the log."""
    folders = prepare_machine(work / "case", work / "workspace")
    shutil.copytree(HERE, work / "workspace" / "check", dirs_exist_ok=True)
    step = {"uses": ACTION, "with": {**case.inputs, "out": f"out-{case.name.replace(' ', '-')}"}}
    answers = {"ANTIDOTE_CACHE": f"{folders.workspace}/demo/answers"}
    contexts = create_contexts(folders, "none", answers | dict(case.environment))
    result = act(engine.run_exactly, folders, step, contexts)
    expect(result.exit_code == case.exit_code, f"exit {result.exit_code}\n" + "\n".join(result.runner.shown))
    outputs = result.outputs
    expect(outputs["exit-code"] == str(case.exit_code) and outputs["verdict"] == case.verdict, str(outputs))
    reported = bool(outputs["report-json"])
    expect(reported == bool(case.verdict), str(outputs))
    if reported:
        expect((work / "workspace" / outputs["report-json"]).is_file(), str(outputs))
    size = len(result.summary.encode())
    expect((size > 0) == reported, f"a summary of {size} bytes")
    errors = [text for name, text in result.runner.obeyed if name == "error"]
    expect(len(errors) == (1 if case.exit_code else 0), f"errors: {errors}")
    check_log(result.runner, TOKEN)
    return f"exit {result.exit_code}, verdict {case.verdict or 'none'}, summary of {size:,} bytes"


def run_template(engine: Engine, work: Path) -> str:
    """Run the workflow that `antidote-ci init` writes on the failing model of the demo."""
    work.chmod(0o711)  # the runner's user has to reach its machine
    write_repository(work, (HERE / "policy.toml").read_text(encoding="utf-8"))
    with LoopbackHub(work / "hub") as hub:
        hub.add(REFERENCE_ID, work / "workspace" / "models" / "reference")
        commit = hub.add(ADAPTER_ID, work / "workspace" / "models" / "finetune")
        check_template(engine.run_exactly, work, hub, commit)
    return f"evaluate: fail, exit 1; repair of {commit[:7]}: repaired, exit 0, pull request opened"


def write_repository(work: Path, policy: str) -> Path:
    """Write the files of `antidote-ci init` with another policy to a folder, from which jobs check them out."""
    repository = work / "repository"
    repository.mkdir()
    write_scaffold(repository, ADAPTER_ID)
    (repository / POLICY).write_text(policy, encoding="utf-8")
    return repository


def check_template(run: RunContainer, work: Path, hub: LoopbackHub, commit: str) -> dict[str, JobResult]:
    """Run both jobs of the repository's workflow: the model ADAPTER_ID of the Hub fails at `commit`, and is repaired.

    The first job fails. Its outputs start the second, which takes the model from the cache, repairs the same commit and
    opens a pull request. The reports and the cache can be read by the runner's user, and no token is in a log.
    """
    workflow = yaml.safe_load((work / "repository" / WORKFLOW).read_text(encoding="utf-8"))
    hub.add_account("demo", TOKEN, rights="read")
    hub.add_account("demo", WRITE_TOKEN, rights="write")
    variables = hub.environment | {name: os.environ[name] for name in ("OMP_WAIT_POLICY",) if name in os.environ}
    results: dict[str, JobResult] = {}
    downloads = {}
    for name in workflow["jobs"]:
        results[name] = run_job(run, work, workflow, name, results, variables)
        weights = re.compile(rf"GET /{ADAPTER_ID}/resolve/.*\.safetensors")
        downloads[name] = [line for line in hub.requests if weights.match(line)]
    evaluated, repaired = results["evaluate"], results["repair"]
    expect(evaluated.status == "failure", f"the first job ends with {evaluated.status}")
    expect(evaluated.outputs == {"verdict": "fail", "source-sha": commit}, str(evaluated.outputs))
    expect(repaired.status == "success", "\n".join(repaired.actions[0].runner.shown) if repaired.actions else "skipped")
    outputs = repaired.actions[0].outputs
    expect(outputs["verdict"] == "repaired" and outputs["source-sha"] == commit, str(outputs))
    expect(f"{ADAPTER_ID}/discussions/" in outputs["pull-request-url"], str(outputs))
    expect(downloads["repair"] == downloads["evaluate"] != [], f"downloaded again: {downloads['repair']}")
    for job, artifact in ((evaluated, "evaluation"), (repaired, "repair")):
        files = job.artifacts[artifact]
        expect(set(files) == {"antidote-out/report.json", "antidote-out/report.html"}, str(files))
        expect(all(files.values()) and bool(job.actions[0].summary), f"an empty report: {files}")
        check_log(job.actions[0].runner, TOKEN)
    check_log(repaired.actions[0].runner, WRITE_TOKEN)
    return results


def run_job(
    run: RunContainer,
    work: Path,
    workflow: Mapping[str, Any],
    name: str,
    finished: Mapping[str, JobResult],
    variables: Mapping[str, str],
    *,
    scheduled: bool = False,
) -> JobResult:
    """Run a job on a new machine whose containers use the network of this one. `variables` are added to the workflow's.

    The workflow was started by hand with ADAPTER_ID, or by its schedule. Raises StepFailed for a step that a runner
    would not finish either, such as an unreadable artifact.
    """
    job = workflow["jobs"][name]
    machine = work / f"machine-{name}"
    folders = prepare_machine(machine, machine / "work" / "repository")
    names = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
    contexts = create_contexts(folders, "host", {})
    if scheduled:
        contexts["github"] |= {"event_name": "schedule", "event": {}}
        contexts["inputs"] = {}
    contexts["needs"] = {
        other: {"outputs": finished[other].outputs, "result": finished[other].status} for other in names
    }
    failed = any(finished[other].status != "success" for other in names)
    contexts["job"]["status"] = "failure" if failed else "success"  # for a job's `if`, that of the jobs it needs
    if not holds(job.get("if"), contexts):
        return JobResult("skipped")
    contexts["job"]["status"] = "success"
    # The variables of the workflow are complete before those of the job are evaluated.
    for environment in (workflow.get("env", {}), job.get("env", {}), variables):
        contexts["env"] |= {key: fill(text, contexts) for key, text in environment.items()}
    result = JobResult()
    for step in job["steps"]:
        step_contexts = {**contexts, "env": dict(contexts["env"])}
        step_contexts["env"] |= {key: fill(text, step_contexts) for key, text in step.get("env", {}).items()}
        if not holds(step.get("if"), step_contexts):
            continue
        exit_code, outputs = run_step(run, work, folders, step, step_contexts, result)
        contexts["steps"] |= {step["id"]: {"outputs": outputs}} if "id" in step else {}
        if exit_code:
            contexts["job"]["status"] = result.status = "failure"
    result.outputs = {key: fill(text, contexts) for key, text in job.get("outputs", {}).items()}
    return result


def run_step(
    run: RunContainer,
    work: Path,
    folders: RunnerFolders,
    step: Mapping[str, Any],
    contexts: Mapping[str, Any],
    job: JobResult,
) -> tuple[int, Mapping[str, str]]:
    """Run a script or the Action, or do what the other actions of the workflow do. Return exit code and outputs."""
    inputs = {key: fill(text, contexts) for key, text in step.get("with", {}).items()}
    if "run" in step:
        return run_script(step["run"], folders, contexts)
    match step["uses"].split("@")[0]:
        case "actions/checkout":
            shutil.copytree(work / "repository", folders.workspace, dirs_exist_ok=True)
            give_to_runner(Path(folders.workspace))
        case "actions/cache/restore" if inputs.get("lookup-only") == "true":
            return 0, {"cache-hit": "true"} if cache_file(work, inputs["key"]).is_file() else {}
        case "actions/cache/restore":
            if (file := cache_file(work, inputs["key"])).is_file():
                read_as_runner("tar", "--extract", f"--file={file}", f"--directory={folders.temp}")
        case "actions/cache/save":
            path = Path(folders.workspace, inputs["path"])
            base = folders.temp if path.is_relative_to(folders.temp) else folders.workspace
            archive = read_as_runner("tar", "--create", f"--directory={base}", str(path.relative_to(base)))
            cache_file(work, inputs["key"]).write_bytes(archive)
        case "actions/upload-artifact":
            files = [name for name in inputs["path"].split() if Path(folders.workspace, name).is_file()]
            job.artifacts[inputs["name"]] = {
                name: len(read_as_runner("cat", f"{folders.workspace}/{name}")) for name in files
            }
        case _ if step["uses"] == ACTION:
            job.actions.append(act(run, folders, step, contexts))
            return job.actions[-1].exit_code, job.actions[-1].outputs
        case other:
            raise StepFailed(f"the check does not know {other}")
    return 0, {}


def run_script(script: str, folders: RunnerFolders, contexts: Mapping[str, Any]) -> tuple[int, Mapping[str, str]]:
    """Run a script as a runner does, with `bash -e` and the variables of the workflow. Return exit code and outputs."""
    output = Path(folders.file_commands, f"set_output_{uuid.uuid4()}")
    output.touch()
    give_to_runner(output)
    environment = {"PATH": os.environ["PATH"], "GITHUB_OUTPUT": str(output), **contexts["env"]}
    completed = subprocess.run(["bash", "-e", "-c", script], env=environment, check=False)  # noqa: S607
    return completed.returncode, dict(parse_outputs(output.read_text(encoding="utf-8")))


def act(
    run: RunContainer, folders: RunnerFolders, step: Mapping[str, Any], contexts: Mapping[str, Any]
) -> ActionResult:
    """Run a step with the Action: the files of its commands, the container, and what the runner reads afterwards."""
    files = {name: f"{folders.file_commands}/{prefix}{uuid.uuid4()}" for name, prefix in FILE_COMMANDS.items()}
    for path in files.values():
        Path(path).touch()
    give_to_runner(Path(folders.file_commands))
    github = {**contexts["github"], "action": step.get("id", "__acme_antidote-ci"), **files}
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    docker_run = build_docker_run(
        step, action, {**contexts, "github": github}, SERVICE, folders, PLAIN, "0a1b2c", uuid.uuid4().hex[:6]
    )
    completed = run(docker_run.arguments, docker_run.environment)
    runner = Runner()
    runner.read(completed.stdout + completed.stderr)
    outputs = parse_outputs(Path(files["output"]).read_text(encoding="utf-8"))
    summary = Path(files["step_summary"]).read_text(encoding="utf-8")
    return ActionResult(completed.returncode, dict(outputs), summary, runner)


def prepare_machine(folder: Path, workspace: Path) -> RunnerFolders:
    """Create the folders of a machine, which belong to its runner, and a socket that nobody serves."""
    folder.mkdir(parents=True, exist_ok=True)
    folders = RunnerFolders(str(folder / "_temp"), str(workspace), str(folder / "docker.sock"))
    for path in (*list(folders.mounts)[1:], folders.temp):
        Path(path).mkdir(parents=True, exist_ok=True)
        give_to_runner(Path(path))
    if not Path(folders.docker_socket).exists():
        with socket.socket(socket.AF_UNIX) as unused:
            unused.bind(folders.docker_socket)
    event = Path(folders.temp, "_github_workflow", "event.json")
    event.write_text(json.dumps({"inputs": {"model": ADAPTER_ID}}), encoding="utf-8")
    return folders


def create_contexts(folders: RunnerFolders, network: str | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """The contexts of a job that was started by hand, with the names and the order that a runner's log shows."""
    server = "https://github.com"
    repository = {"repository": "acme/model-ci", "repository_owner": "acme", "repository_owner_id": "1"}
    numbers = {"run_id": "2", "run_number": "3", "retention_days": "90", "run_attempt": "1", "actor_id": "4"}
    urls = {"server_url": server, "api_url": "https://api.github.com", "graphql_url": "https://api.github.com/graphql"}
    branch = {"ref_name": "main", "ref_protected": "false", "ref_type": "branch"}
    source = {"workflow_ref": f"acme/model-ci/{WORKFLOW}@refs/heads/main", "workflow_sha": "0" * 40}
    github = {
        "token": "token_of_the_check",
        **{"job": "of-the-check", "ref": "refs/heads/main", "sha": "0" * 40, **repository, **numbers},
        **{"actor": "somebody", "workflow": "antidote", "head_ref": "", "base_ref": ""},
        **{"event_name": "workflow_dispatch", **urls, **branch, **source},
        **{"repository_id": "5", "triggering_actor": "somebody", "workspace": folders.workspace},
        "action": "",
        "event": {"inputs": {"model": ADAPTER_ID}},
        "event_path": f"{folders.temp}/_github_workflow/event.json",
        **dict(zip(("action_repository", "action_ref"), ACTION.split("@"), strict=True)),
    }
    runner = {
        **{"os": "Linux", "arch": "X64", "name": "GitHub Actions 1", "environment": "github-hosted"},
        "tool_cache": "/opt/hostedtoolcache",
        "temp": folders.temp,
        "workspace": str(Path(folders.workspace).parent),
    }
    return {
        "github": github,
        "runner": runner,
        "inputs": {"model": ADAPTER_ID, "revision": ""},
        "secrets": {"HF_TOKEN": TOKEN, "HF_WRITE_TOKEN": WRITE_TOKEN},
        "job": {"status": "success", "container": {"network": network} if network else {}},
        "env": dict(environment),
        "steps": {},
    }


def cache_file(work: Path, key: str) -> Path:
    """Path of the cache with this key. The prefixes in `restore-keys` find nothing."""
    return work / f"cache-{key.replace('/', '-')}.tar"


def check_log(runner: Runner, token: str) -> None:
    """The token is masked, and nothing that the container knows of the runner's rights is in the log."""
    expect(token in runner.masks, "the token is not masked")
    secrets = (token, SERVICE["ACTIONS_RUNTIME_TOKEN"])
    expect(not any(secret in line for line in runner.shown for secret in secrets), "a token is in the log")


def read_as_runner(*command: str) -> bytes:
    """Return the output of a command that the runner's user executes. Raises StepFailed if it fails."""
    user = {"user": RUNNER_USER, "group": RUNNER_USER, "extra_groups": []} if os.geteuid() == 0 else {}
    completed = subprocess.run(command, check=False, capture_output=True, **user)  # type: ignore[call-overload]
    if completed.returncode:
        raise StepFailed(f"the runner's user cannot execute {' '.join(command)}: {completed.stderr.decode()}")
    return bytes(completed.stdout)


def give_to_runner(folder: Path) -> None:
    """Make a folder with its contents belong to the runner's user. Without root, this user is the runner's."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, RUNNER_USER, RUNNER_USER, follow_symlinks=False)
