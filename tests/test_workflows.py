"""All workflows (own, generated, documented): pinned actions, minimal rights, no expressions in scripts."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from action import inputs
from antidote_ci.cli.init import ACTION, render_workflow, write_scaffold
from scripts import linting, release

ROOT = Path(__file__).parent.parent
TEXTS = linting.workflows()
OWN = [path.name for path in sorted(ROOT.glob(".github/workflows/*.yml"))]
WRITES = {
    "image.yml": {"image": {"packages", "id-token", "attestations"}},
    "release.yml": {
        "cuda": {"packages", "id-token", "attestations"},
        "cpu": {"packages", "id-token", "attestations"},
        "tag": {"contents"},
        "package": {"id-token", "attestations"},
        "pypi": {"id-token"},
        "announce": {"contents"},
    },
}
"""All write permissions: workflow -> job -> permissions."""
USES = re.compile(r"^\s*(?:- )?uses: (\S+)(.*)$", re.MULTILINE)
needs_linters = pytest.mark.skipif(
    not (linting.NODE_PACKAGES.is_dir() and shutil.which("zizmor", path=str(Path(sys.executable).parent))),
    reason="`make check` installs the linters",
)


def jobs(name: str) -> dict[str, Any]:
    content: dict[str, dict[str, Any]] = yaml.safe_load(TEXTS[name])
    return content["jobs"]


def steps(name: str) -> Iterator[dict[str, Any]]:
    for job in jobs(name).values():
        yield from job.get("steps", [])


def test_all_workflows_are_covered() -> None:
    assert set(OWN) == {"ci.yml", "newest.yml", "selftest.yml", "image.yml", "release.yml"}
    assert any(name.startswith("github-action-") for name in TEXTS)


@pytest.mark.parametrize("name", TEXTS)
def test_actions_are_pinned_to_commits_with_a_version_comment(name: str) -> None:
    for action, comment in USES.findall(TEXTS[name]):
        if action.startswith(ACTION.split("@")[0]):
            assert re.fullmatch(r".*@[0-9a-f]{40}", action)
        elif not action.startswith("./"):
            assert re.fullmatch(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40}", action)
            assert re.fullmatch(r" {1,2}# v\d+\.\d+\.\d+", comment), f"{action} has no version comment"


def test_action_has_the_same_commit_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for text in TEXTS.values():
        for action, comment in USES.findall(text):
            if action.startswith("./"):
                continue
            repository = "/".join(action.split("@")[0].split("/")[:2])
            pins.setdefault(repository, set()).add(f"{action.split('@')[-1]} {comment.strip()}")
    assert {name: commits for name, commits in pins.items() if len(commits) > 1} == {}


@pytest.mark.parametrize("name", TEXTS)
def test_no_trigger_gives_rights_to_outsiders(name: str) -> None:
    triggers = yaml.safe_load(TEXTS[name])[True]
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(
        [triggers] if isinstance(triggers, str) else triggers
    )


@pytest.mark.parametrize("name", [*OWN, "init.yml"])
def test_write_permissions_are_listed(name: str) -> None:
    assert yaml.safe_load(TEXTS[name])["permissions"] == {}
    for job, values in jobs(name).items():
        writes = {right for right, value in values["permissions"].items() if value == "write"}
        assert writes == WRITES.get(name, {}).get(job, set()), job
        assert set(values["permissions"].values()) <= {"read", "write"}
        if writes & {"contents", "packages"} and "uses" not in values:
            assert values["environment"] == "release"


@pytest.mark.parametrize("name", [*OWN, "init.yml"])
def test_every_job_has_a_timeout(name: str) -> None:
    assert not [job for job, values in jobs(name).items() if "uses" not in values and "timeout-minutes" not in values]


@pytest.mark.parametrize("name", TEXTS)
def test_scripts_contain_no_expressions(name: str) -> None:
    assert not [step["run"] for step in steps(name) if "${{" in step.get("run", "")]


@pytest.mark.parametrize("name", TEXTS)
def test_checkout_does_not_persist_credentials(name: str) -> None:
    for step in steps(name):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("name", TEXTS)
def test_own_action_gets_only_known_inputs(name: str) -> None:
    for step in steps(name):
        if step.get("uses", "").startswith((ACTION.split("@")[0], "./")):
            assert set(step["with"]) <= set(inputs.INPUTS)


def test_every_pinned_image_is_built() -> None:
    assert len(release.ACTIONS) == len([job for job in jobs("release.yml").values() if "image.yml" in str(job)])


@needs_linters
def test_linters_report_known_errors(tmp_path: Path) -> None:
    for name, lint, broken in (
        ("context.yml", linting.actionlint, render_workflow(None).replace("env.REVISION", "env.REVISION.x.y")),
        (
            "unpinned.yml",
            linting.zizmor,
            render_workflow(None).replace(ACTION, "acme/antidote-ci@v1"),
        ),
    ):
        path = tmp_path / ".github" / "workflows" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(broken)
        assert not lint([str(path)])
        path.write_text(render_workflow(None))
        assert lint([str(path)])
    image = tmp_path / "Dockerfile"
    image.write_text("FROM python:latest\nENTRYPOINT python\n")
    assert not linting.hadolint(str(image))


@needs_linters
@pytest.mark.parametrize("model", [None, "acme/assistant"])
def test_generated_workflow_passes_the_linters(tmp_path: Path, model: str | None) -> None:
    write_scaffold(tmp_path, model)
    assert linting.lint_workflows(tmp_path / ".github" / "workflows")
