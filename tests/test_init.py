"""The command `init`: it writes a workflow and a policy with every key, or nothing."""

import dataclasses
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from action import inputs
from antidote_ci.cli.init import (
    ACTION,
    POLICY,
    WORKFLOW,
    read_descriptions,
    render_policy,
    render_workflow,
    write_scaffold,
)
from antidote_ci.errors import ConfigurationError
from antidote_ci.policy import SECTIONS, Policy, read_policy
from antidote_ci.report.text import link_documents
from scripts.release import ACTION_FILE, stamp_action
from tests.command_line import FinishedCommand, run_command

ROOT = Path(__file__).parent.parent
OWN = ACTION.split("@")[0]
WITH_DEFAULT = re.compile(r"^# ([a-z_]+ = .+)$", re.MULTILINE)
KEY = re.compile(r"^(?:# )?([a-z_]+) =", re.MULTILINE)


def init(*arguments: str) -> FinishedCommand:
    return run_command("init", *arguments)


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_init_writes_a_workflow_and_the_default_policy(tmp_path: Path) -> None:
    done = init(str(tmp_path), "--model", "acme/assistant")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert set(files(tmp_path)) == {WORKFLOW, POLICY}
    assert all(name in done.stderr for name in files(tmp_path))
    assert read_policy(tmp_path / POLICY) == Policy()
    assert files(tmp_path)[WORKFLOW].count("acme/assistant") >= 3


def test_the_policy_lists_every_key_with_description_and_choices() -> None:
    text = render_policy()
    for name, section in SECTIONS.items():
        part = text.split(f"\n[{name}]\n")[1].split("\n[")[0]
        keys = [field.name for field in dataclasses.fields(section)]
        assert KEY.findall(part) == keys
        prose = " ".join(part.replace("\n# ", " ").split())
        for key, kind in get_type_hints(section).items():
            assert link_documents(read_descriptions(section)[key]) in prose
            if get_origin(kind) is Literal:
                assert f"One of {', '.join(get_args(kind))}." in prose
    assert max(map(len, text.splitlines())) <= 100


@settings(max_examples=20)
@given(st.sets(st.sampled_from(WITH_DEFAULT.findall(render_policy()))))
def test_uncommented_keys_have_their_default(uncommented: set[str]) -> None:
    lines = (line[2:] if line[2:] in uncommented else line for line in render_policy().splitlines())
    path = Path(os.environ["ANTIDOTE_CACHE"]) / "uncommented.toml"
    path.write_text("\n".join(lines))
    assert read_policy(path) == Policy()


@pytest.mark.parametrize("existing", [WORKFLOW, POLICY])
@pytest.mark.parametrize("kind", ["file", "folder", "link to nowhere"])
def test_an_existing_file_is_not_overwritten_and_nothing_is_written(tmp_path: Path, existing: str, kind: str) -> None:
    path = tmp_path / existing
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    done = init(str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert f"{path} already exists" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
    assert kind != "file" or path.read_text() == "mine"


def test_nothing_is_written_if_the_workflow_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / ".github").write_text("no folder")
    done = init(str(tmp_path))
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert files(tmp_path) == {".github": "no folder"}


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    done = init(str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "there is no folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=30) | st.from_regex(r"[\w.-]{1,9}/[\w.-]{1,9}", fullmatch=True))
def test_a_model_must_be_a_hub_id(model: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*", model):
        document = yaml.safe_load(render_workflow(model))
        assert document[True]["workflow_dispatch"]["inputs"]["model"]["default"] == model
        assert document["env"]["MODEL"].endswith(f"|| '{model}' }}}}")
    else:
        with pytest.raises(ConfigurationError, match="is not a Hub id"):
            write_scaffold(Path(), model)


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(render_workflow(None))["jobs"]
    return found


def own_steps(job: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for step in job["steps"] if step.get("uses", "").startswith(OWN)]


def test_the_evaluate_job_has_no_write_permission(jobs: dict[str, Any]) -> None:
    assert jobs["evaluate"]["permissions"] == {"contents": "read"}
    assert "WRITE" not in str(jobs["evaluate"])
    assert "environment" not in jobs["evaluate"]


def test_the_repair_job_needs_the_evaluate_job_and_an_environment(
    jobs: dict[str, Any],
) -> None:
    assert jobs["repair"]["permissions"] == {"contents": "read"}
    assert jobs["repair"]["needs"] == "evaluate"
    assert jobs["repair"]["environment"] == "antidote-publish"
    (step,) = own_steps(jobs["repair"])
    assert step["with"]["revision"] == "${{ needs.evaluate.outputs.source-sha }}"
    assert step["with"]["hf-write-token"] == "${{ secrets.HF_WRITE_TOKEN }}"


def test_the_workflow_uses_inputs_of_the_action_only(jobs: dict[str, Any]) -> None:
    for name in ("evaluate", "repair"):
        (step,) = own_steps(jobs[name])
        assert set(step["with"]) <= set(inputs.INPUTS)
        if step["with"]["command"] == "evaluate":
            assert not set(step["with"]) & set(inputs.RUN_ONLY)


def test_only_a_scheduled_run_has_a_script_and_no_event_reaches_it(jobs: dict[str, Any]) -> None:
    assert [name for name, job in jobs.items() for step in job["steps"] if "run" in step] == ["head"]
    assert jobs["head"]["if"] == "${{ github.event_name == 'schedule' && !inputs.model }}"
    assert not own_steps(jobs["head"])


def test_only_a_workflow_with_a_model_has_a_schedule() -> None:
    assert "schedule" not in yaml.safe_load(render_workflow(None))[True]
    assert yaml.safe_load(render_workflow("acme/assistant"))[True]["schedule"] == [{"cron": "17 4 * * *"}]


def test_a_training_workflow_can_call_it() -> None:
    called = yaml.safe_load(render_workflow("acme/assistant"))[True]["workflow_call"]
    assert called["inputs"]["model"]["required"]
    assert {name: secret["required"] for name, secret in called["secrets"].items()} == {
        "HF_TOKEN": True,
        "HF_WRITE_TOKEN": False,
    }


def test_the_wheel_includes_the_template_and_the_released_action(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    package, repository = tmp_path / "package", tmp_path / "repository"
    repository.mkdir()
    zipfile.ZipFile(wheel).extractall(package)
    module = package / ACTION_FILE
    action = f"acme/antidote-ci@{'c' * 40}"
    module.write_text(stamp_action(module.read_text(), action))
    command = [sys.executable, "-P", "-m", "antidote_ci", "init", str(repository)]
    environment = os.environ | {"PYTHONPATH": str(package)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert files(repository)[WORKFLOW].count(f"uses: {action}\n") == 2
