"""What a release rewrites and decides, and the shell of its jobs against a repository on this machine."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci import __version__
from scripts import release

ROOT = Path(__file__).parent.parent
DIGESTS = {"CPU": "sha256:" + "a" * 64, "CUDA": "sha256:" + "b" * 64}
COMMIT = "c" * 40
CHANGELOG = """# Changelog

## Unreleased

## 1.2.3 - 2026-11-25

### Added

- A thing.

## 1.2.2 - 2026-11-01

- An older one.
"""

numbers = st.tuples(*[st.integers(0, 12)] * 3)


def text(number: tuple[int, ...]) -> str:
    return ".".join(map(str, number))


@given(numbers)
def test_a_tag_names_a_version(number: tuple[int, ...]) -> None:
    assert release.version_of(f"release-{text(number)}") == text(number)


@pytest.mark.parametrize(
    "tag", ["v1.2.3", "1.2.3", "release-1.2", "release-1.2.3rc1", "release-01.2.3", "release-", ""]
)
def test_other_tags_release_nothing(tag: str) -> None:
    with pytest.raises(ValueError, match="is no tag of the form"):
        release.version_of(tag)


def test_tag_package_and_changelog_agree() -> None:
    assert release.checked("release-1.2.3", "1.2.3", CHANGELOG) == "1.2.3"
    assert release.notes(CHANGELOG, "1.2.3") == "### Added\n\n- A thing."


@pytest.mark.parametrize(
    ("tag", "package", "changelog", "said"),
    [
        ("release-1.2.3", "1.2.4", CHANGELOG, "__version__ is 1.2.4"),
        ("release-1.2.4", "1.2.4", CHANGELOG, "says nothing under `## 1.2.4"),
        ("release-1.2.3", "1.2.3", CHANGELOG.replace("1.2.3 - 2026-11-25", "1.2.3"), "says nothing under `## 1.2.3"),
        ("release-1.2.3", "1.2.3", CHANGELOG.replace("Unreleased\n", "Unreleased\n\n- More.\n"), "under Unreleased"),
    ],
)
def test_what_does_not_agree_is_named(tag: str, package: str, changelog: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        release.checked(tag, package, changelog)


@given(numbers, st.lists(numbers))
def test_the_floating_tag_follows_the_newest_of_its_major_version(
    number: tuple[int, ...], others: list[tuple[int, ...]]
) -> None:
    tags = [f"v{text(other)}" for other in others] + ["v1", "v9.9.9^{}", "release-99.0.0", "nightly"]
    newest = max([number, *(other for other in others if other[0] == number[0])])
    assert release.floating(text(number), tags) == (f"v{number[0]}" if newest == number else None)


@pytest.mark.parametrize("path", release.ACTIONS)
def test_an_action_is_pinned_to_its_image_and_nothing_else_changes(path: str) -> None:
    before = (ROOT / path).read_text()
    after = release.pinned(path, before, release.image("Owner/Antidote-CI"), DIGESTS["CPU"])
    changed = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert len(changed) == 1
    name = f"ghcr.io/owner/antidote-ci@{DIGESTS['CPU']}"
    assert name in changed[0][1]
    runs = yaml.safe_load(after)["runs"]
    if runs["using"] == "docker":
        assert runs["image"] == f"docker://{name}"
    with pytest.raises(ValueError, match="0 times"):
        release.pinned(path, after, "ghcr.io/a/b", DIGESTS["CPU"])


def test_an_image_is_named_by_its_digest_alone() -> None:
    for digest in ("", "latest", "sha256:abc", DIGESTS["CPU"] + "\nX"):
        with pytest.raises(ValueError, match="no sha256 digest"):
            release.pinned("action.yml", "image: Dockerfile", "ghcr.io/a/b", digest)


def test_the_package_names_the_action_of_its_release() -> None:
    before = (ROOT / release.STARTING).read_text()
    after = release.stamped(before, f"acme/antidote-ci@{COMMIT}")
    assert f'ACTION = "acme/antidote-ci@{COMMIT}"' in after
    for action in ("acme/antidote-ci@v1", f'acme/x"@{COMMIT}', ""):
        with pytest.raises(ValueError, match="is no OWNER"):
            release.stamped(before, action)


def test_the_usage_names_what_each_command_takes() -> None:
    source = (ROOT / "scripts/release/__main__.py").read_text()
    taken = [f"{name}{names.replace(',', '').upper()}" for name, names in re.findall(r'case \["(\w+)"(.*)\]:', source)]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.release"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    said = re.findall(r"^([a-z]+(?: [A-Z]+)+)  ", done.stderr, re.MULTILINE)
    assert said == taken


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the jobs of a release see, cloned from a bare repository beside it."""
    folder = tmp_path / "checkout"
    for name in (*release.ACTIONS, release.STARTING, "antidote_ci/__init__.py", "scripts/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / "scripts/release", folder / "scripts/release", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "CHANGELOG.md").write_text(CHANGELOG.replace("1.2.3", __version__))
    git(tmp_path, "init", "--quiet", "--bare", "origin.git")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=All")
    git(folder, "remote", "add", "origin", str(tmp_path / "origin.git"))
    # `gh` cannot be had: what it is asked is kept, with what it reads.
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text('#!/bin/sh\necho "$@" >>"$ASKED"\n[ "$1" = auth ] || cat >>"$ASKED"\n')
    gh.chmod(0o755)
    (gh.parent / "python3").symlink_to(sys.executable)
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)  # noqa: S607
    return done.stdout.strip()


def job(checkout: Path, name: str, **environment: str) -> dict[str, str]:
    """Run the one step of a job that calls our script as the runner would; its outputs."""
    workflow: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    assert workflow["defaults"]["run"]["shell"] == "bash"
    (script,) = (step["run"] for step in workflow["jobs"][name]["steps"] if "scripts.release" in step.get("run", ""))
    output = checkout.parent / f"output-{name}"
    variables = {
        "PATH": f"{checkout.parent / 'bin'}:{os.environ['PATH']}",
        "HOME": str(checkout.parent),
        "GITHUB_REPOSITORY": "Acme/antidote-ci",
        "GITHUB_REF_NAME": f"release-{__version__}",
        "GITHUB_OUTPUT": str(output),
        "ASKED": str(checkout.parent / "asked"),
        "VERSION": __version__,
    }
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],  # noqa: S607
        cwd=checkout,
        env=variables | environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = output.read_text().splitlines() if output.exists() else []
    return dict(line.split("=", 1) for line in lines)


def test_the_jobs_of_a_release_leave_its_tags(checkout: Path) -> None:
    origin = checkout.parent / "origin.git"
    assert job(checkout, "check") == {"version": __version__, "image": "ghcr.io/acme/antidote-ci"}

    commit = job(checkout, "tag", **DIGESTS)["commit"]
    assert git(origin, "rev-parse", f"v{__version__}") == commit
    assert git(origin, "show", f"{commit}:action.yml").endswith(
        f"image: docker://ghcr.io/acme/antidote-ci@{DIGESTS['CPU']}"
    )
    assert DIGESTS["CUDA"] in git(origin, "show", f"{commit}:action/gpu/action.yml")

    job(checkout, "package", COMMIT=commit)
    assert f'ACTION = "Acme/antidote-ci@{commit}"' in (checkout / release.STARTING).read_text()

    job(checkout, "announce", COMMIT=commit)
    floating = f"v{__version__.split('.')[0]}"
    assert git(origin, "rev-parse", floating) == commit
    asked = (checkout.parent / "asked").read_text()
    assert f"release create v{__version__} --verify-tag" in asked
    assert "- A thing." in asked
    assert f"- uses: Acme/antidote-ci@{commit} # v{__version__}" in asked


def test_an_older_line_leaves_the_floating_tag_alone(checkout: Path) -> None:
    origin = checkout.parent / "origin.git"
    major = __version__.split(".")[0]
    git(checkout, "push", "--quiet", "origin", f"HEAD:refs/tags/v{major}", f"HEAD:refs/tags/v{major}.999.0")
    newer = git(origin, "rev-parse", f"v{major}")
    commit = job(checkout, "tag", **DIGESTS)["commit"]
    job(checkout, "announce", COMMIT=commit)
    assert git(origin, "rev-parse", f"v{major}") == newer != commit


def test_a_tag_is_never_moved(checkout: Path) -> None:
    job(checkout, "tag", **DIGESTS)
    before = git(checkout.parent / "origin.git", "rev-parse", f"v{__version__}")
    git(checkout, "reset", "--quiet", "--hard", "HEAD~1")
    with pytest.raises(AssertionError, match="already exists"):
        job(checkout, "tag", **DIGESTS | {"CPU": "sha256:" + "d" * 64})
    assert git(checkout.parent / "origin.git", "rev-parse", f"v{__version__}") == before
