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
INPUTS = {
    "actions/attest": (
        "subject-path subject-digest subject-name subject-checksums subject-version sbom-path predicate-type "
        "predicate predicate-path push-to-registry create-storage-record show-summary github-token"
    ),
    "actions/cache": (
        "path* key* restore-keys upload-chunk-size enableCrossOsArchive fail-on-cache-miss lookup-only save-always"
    ),
    "actions/cache/restore": "path* key* restore-keys enableCrossOsArchive fail-on-cache-miss lookup-only",
    "actions/cache/save": "path* key* upload-chunk-size enableCrossOsArchive",
    "actions/checkout": (
        "repository ref token ssh-key ssh-known-hosts ssh-strict ssh-user persist-credentials path clean "
        "filter sparse-checkout sparse-checkout-cone-mode fetch-depth fetch-tags show-progress lfs submodules "
        "set-safe-directory github-server-url allow-unsafe-pr-checkout"
    ),
    "actions/download-artifact": (
        "name artifact-ids path pattern merge-multiple github-token repository run-id skip-decompress digest-mismatch"
    ),
    "actions/setup-python": (
        "python-version python-version-file cache architecture check-latest token cache-dependency-path "
        "update-environment allow-prereleases freethreaded pip-version"
    ),
    "actions/upload-artifact": (
        "name path* if-no-files-found retention-days compression-level overwrite include-hidden-files archive"
    ),
    "docker/build-push-action": (
        "add-hosts allow annotations attests build-args build-contexts builder cache-from cache-to call "
        "cgroup-parent context file labels load network no-cache no-cache-filters outputs platforms "
        "provenance pull push sbom secrets secret-envs secret-files shm-size ssh tags target ulimit "
        "github-token"
    ),
    "docker/login-action": "registry username password ecr scope logout registry-auth",
    "docker/setup-buildx-action": (
        "version driver driver-opts buildkitd-flags buildkitd-config buildkitd-config-inline use name "
        "endpoint platforms append keep-state cache-binary cleanup"
    ),
    "pypa/gh-action-pypi-publish": (
        "user password repository-url packages-dir verify-metadata skip-existing verbose print-hash"
    ),
}
"""Action -> its inputs, the required ones with a star: from its action.yml at the pinned commit, read in December 2026.
All commits are those of the tags in the comments. That of gh-action-pypi-publish was not available: its inputs are from
an older one.
"""
OUTPUTS = {
    "docker/build-push-action": {"imageid", "digest", "metadata"},
    "actions/cache/restore": {"cache-hit", "cache-primary-key", "cache-matched-key"},
}
SCRIPT_OUTPUTS = {"check": {"version", "image"}, "tag": {"commit"}, "head": {"commit"}, "push": {"commit"}}
"""Step -> the outputs of its script, which tests run; `push` is a user's."""
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


@pytest.mark.parametrize("name", TEXTS)
def test_other_actions_get_inputs_that_they_have_and_all_that_they_require(name: str) -> None:
    """GitHub only warns of an unknown input, and does not enforce required ones."""
    for step in steps(name):
        action = step.get("uses", "").split("@")[0]
        if action and not action.startswith((ACTION.split("@")[0], "./")):
            known = INPUTS[action].split()
            given = set(step.get("with", {}))
            assert given <= {text.rstrip("*") for text in known}, action
            assert {text[:-1] for text in known if text.endswith("*")} <= given, action


@pytest.mark.parametrize("name", TEXTS)
def test_outputs_of_steps_and_jobs_exist(name: str) -> None:
    """An expression with an unknown name is empty, not an error."""
    ours = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["outputs"]
    for job in jobs(name).values():
        with_id = {step["id"]: step for step in job.get("steps", []) if "id" in step}
        for step_id, output in re.findall(r"steps\.([\w-]+)\.outputs\.([\w-]+)", str(job)):
            action = with_id[step_id].get("uses", "").split("@")[0]
            own = action.startswith((ACTION.split("@")[0], "./"))
            assert output in (ours if own else OUTPUTS[action] if action else SCRIPT_OUTPUTS[step_id])
        for needed, output in re.findall(r"needs\.([\w-]+)\.outputs\.([\w-]+)", str(job)):
            needs = [job["needs"]] if isinstance(job["needs"], str) else job["needs"]
            assert needed in needs
            target = jobs(name)[needed]
            if "uses" in target:
                called = yaml.safe_load(TEXTS[target["uses"].rpartition("/")[2]])
                assert output in called[True]["workflow_call"]["outputs"]
            else:
                assert output in target["outputs"]


def test_attested_image_is_the_pushed_one() -> None:
    """What actions/attest requires to push: a name with its registry and without a tag, and a sha256 digest."""
    image = {step.get("uses", "").split("@")[0]: step.get("with", {}) for step in steps("image.yml")}
    attest, build = image["actions/attest"], image["docker/build-push-action"]
    assert attest["subject-digest"] == "${{ steps.build.outputs.digest }}"
    assert build["tags"] == f"{attest['subject-name']}:${{{{ inputs.tag }}}}"
    assert (build["push"], attest["push-to-registry"]) == (True, True)
    # A storage record would need the right artifact-metadata.
    assert attest["create-storage-record"] is False
    assert release.image_name("Acme/Antidote-CI").startswith(f"{image['docker/login-action']['registry']}/acme/")


def test_images_get_arguments_of_the_dockerfile() -> None:
    arguments = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE))
    texts = [job["with"]["build-args"] for job in jobs("release.yml").values() if "with" in job]
    texts += [step["with"]["build-args"] for step in steps("image.yml") if "build-args" in step.get("with", {})]
    assert len(texts) == 3
    assert {line.split("=")[0] for text in texts for line in text.splitlines() if "=" in line} <= arguments


def test_called_workflows_get_all_inputs_and_enough_rights() -> None:
    """A called workflow has at most the permissions of the job that calls it."""
    for name in OWN:
        for job in jobs(name).values():
            if "uses" in job:
                called = yaml.safe_load(TEXTS[job["uses"].rpartition("/")[2]])
                trigger = called[True]["workflow_call"] or {}
                assert set(job.get("with", {})) == set(trigger.get("inputs", {}))
                for inner in called["jobs"].values():
                    assert inner["permissions"].items() <= job["permissions"].items()


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
