"""The release scripts, and the shell steps of the release workflow against a local git repository."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
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


def format_version(number: tuple[int, ...]) -> str:
    return ".".join(map(str, number))


@given(numbers)
def test_release_tag_is_parsed(number: tuple[int, ...]) -> None:
    assert release.parse_tag(f"release-{format_version(number)}") == format_version(number)


@pytest.mark.parametrize(
    "tag", ["v1.2.3", "1.2.3", "release-1.2", "release-1.2.3rc1", "release-01.2.3", "release-", ""]
)
def test_other_tags_are_rejected(tag: str) -> None:
    with pytest.raises(ValueError, match="is not a tag of the form"):
        release.parse_tag(tag)


def test_matching_tag_package_and_changelog_pass() -> None:
    assert release.check_version("release-1.2.3", "1.2.3", CHANGELOG) == "1.2.3"
    assert release.read_notes(CHANGELOG, "1.2.3") == "### Added\n\n- A thing."


@pytest.mark.parametrize(
    ("tag", "package", "changelog", "message"),
    [
        ("release-1.2.3", "1.2.4", CHANGELOG, "__version__ is 1.2.4"),
        ("release-1.2.4", "1.2.4", CHANGELOG, "has no section `## 1.2.4"),
        ("release-1.2.3", "1.2.3", CHANGELOG.replace("1.2.3 - 2026-11-25", "1.2.3"), "has no section `## 1.2.3"),
        ("release-1.2.3", "1.2.3", CHANGELOG.replace("Unreleased\n", "Unreleased\n\n- More.\n"), "section Unreleased"),
    ],
)
def test_mismatch_is_named(tag: str, package: str, changelog: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        release.check_version(tag, package, changelog)


@given(numbers, st.lists(numbers))
def test_floating_tag_follows_the_newest_release(number: tuple[int, ...], others: list[tuple[int, ...]]) -> None:
    tags = [f"v{format_version(other)}" for other in others] + ["v1", "v9.9.9^{}", "release-99.0.0", "nightly"]
    newest = max([number, *(other for other in others if other[0] == number[0])])
    assert release.floating_tag(format_version(number), tags) == (f"v{number[0]}" if newest == number else None)


@pytest.mark.parametrize("path", release.ACTIONS)
def test_pinning_changes_only_the_image(path: str) -> None:
    before = (ROOT / path).read_text()
    after = release.pin_image(path, before, release.image_name("Owner/Antidote-CI"), DIGESTS["CPU"])
    changed = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert len(changed) == 1
    name = f"ghcr.io/owner/antidote-ci@{DIGESTS['CPU']}"
    assert name in changed[0][1]
    runs = yaml.safe_load(after)["runs"]
    if runs["using"] == "docker":
        assert runs["image"] == f"docker://{name}"
    with pytest.raises(ValueError, match="0 times"):
        release.pin_image(path, after, "ghcr.io/a/b", DIGESTS["CPU"])


def test_only_digests_are_accepted() -> None:
    for digest in ("", "latest", "sha256:abc", DIGESTS["CPU"] + "\nX"):
        with pytest.raises(ValueError, match="not a sha256 digest"):
            release.pin_image("action.yml", "image: Dockerfile", "ghcr.io/a/b", digest)


def test_package_names_the_released_action() -> None:
    before = (ROOT / release.ACTION_FILE).read_text()
    after = release.stamp_action(before, f"acme/antidote-ci@{COMMIT}")
    assert f'ACTION = "acme/antidote-ci@{COMMIT}"' in after
    project = release.stamp_documentation((ROOT / "pyproject.toml").read_text(), "acme/antidote-ci", __version__)
    namespace: dict[str, str] = {}
    exec(after, namespace)  # noqa: S102 - a file of ours
    assert f'Documentation = "{namespace["DOCUMENTATION"]}"' in project
    assert namespace["DOCUMENTATION"] == f"https://github.com/acme/antidote-ci/blob/v{__version__}/docs"
    for action in ("acme/antidote-ci@v1", f'acme/x"@{COMMIT}', ""):
        with pytest.raises(ValueError, match="is not of the form OWNER"):
            release.stamp_action(before, action)


def test_usage_names_the_arguments_of_each_command() -> None:
    source = (ROOT / "scripts/release/__main__.py").read_text()
    taken = [f"{name}{names.replace(',', '').upper()}" for name, names in re.findall(r'case \["(\w+)"(.*)\]:', source)]
    completed = subprocess.run(
        [sys.executable, "-m", "scripts.release"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert completed.returncode == 1
    usage = re.findall(r"^([a-z]+(?: [A-Z]+)+)  ", completed.stderr, re.MULTILINE)
    assert usage == taken


def test_links_of_the_readme_lead_to_the_repository() -> None:
    text = (
        "[a](docs/a.md#b) ![c](docs/c.png) [d](https://d.example/) [e](#e) [`f`](F.md)\n[![g](docs/g.png)](docs/g.md)"
    )
    blob, raw = (f"https://github.com/acme/x/{kind}/{COMMIT}" for kind in ("blob", "raw"))
    assert release.link_readme(text, f"acme/x@{COMMIT}") == (
        f"[a]({blob}/docs/a.md#b) ![c]({raw}/docs/c.png) [d](https://d.example/) [e](#e) [`f`]({blob}/F.md)\n"
        f"[![g]({raw}/docs/g.png)]({blob}/docs/g.md)"
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout as the release jobs see it, with a bare repository as its origin."""
    folder = tmp_path / "checkout"
    for name in (*release.ACTIONS, release.ACTION_FILE, "README.md", "pyproject.toml", "scripts/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / "scripts/release", folder / "scripts/release", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "CHANGELOG.md").write_text(CHANGELOG.replace("1.2.3", __version__))
    git(tmp_path, "init", "--quiet", "--bare", "origin.git")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=All")
    git(folder, "remote", "add", "origin", str(tmp_path / "origin.git"))
    # A replacement of `gh` records its arguments and its input.
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text('#!/bin/sh\necho "$@" >>"$GH_LOG"\n[ "$1" = auth ] || cat >>"$GH_LOG"\n')
    gh.chmod(0o755)
    (gh.parent / "python3").symlink_to(sys.executable)
    return folder


def git(folder: Path, *arguments: str) -> str:
    completed = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)  # noqa: S607
    return completed.stdout.strip()


def job(checkout: Path, name: str, **environment: str) -> dict[str, str]:
    """Run the step of a job that calls scripts.release like a runner, and return its outputs."""
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
        "GH_LOG": str(checkout.parent / "gh.log"),
        "VERSION": __version__,
    }
    completed = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],  # noqa: S607
        cwd=checkout,
        env=variables | environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    lines = output.read_text().splitlines() if output.exists() else []
    return dict(line.split("=", 1) for line in lines)


def test_release_jobs_create_the_tags(checkout: Path) -> None:
    origin = checkout.parent / "origin.git"
    assert job(checkout, "check") == {"version": __version__, "image": "ghcr.io/acme/antidote-ci"}

    commit = job(checkout, "tag", **DIGESTS)["commit"]
    assert git(origin, "rev-parse", f"v{__version__}") == commit
    assert git(origin, "show", f"{commit}:action.yml").endswith(
        f"image: docker://ghcr.io/acme/antidote-ci@{DIGESTS['CPU']}"
    )
    assert DIGESTS["CUDA"] in git(origin, "show", f"{commit}:action/gpu/action.yml")

    job(checkout, "package", COMMIT=commit)
    assert f'ACTION = "Acme/antidote-ci@{commit}"' in (checkout / release.ACTION_FILE).read_text()

    job(checkout, "announce", COMMIT=commit)
    floating = f"v{__version__.split('.')[0]}"
    assert git(origin, "rev-parse", floating) == commit
    gh_log = (checkout.parent / "gh.log").read_text()
    assert f"release create v{__version__} --verify-tag" in gh_log
    assert "- A thing." in gh_log
    assert f"- uses: Acme/antidote-ci@{commit} # v{__version__}" in gh_log


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the job `package` builds from a checkout of all files, but for the installation of hatchling."""
    folder = tmp_path_factory.mktemp("package")
    for name in filter(None, git(ROOT, "ls-files", "-z").split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    scripts = [step["run"] for step in workflow["jobs"]["package"]["steps"] if "run" in step]
    assert scripts[-1].splitlines()[0] == "python -m pip install --require-hashes --requirement image/locks/build.txt"
    scripts[-1] = scripts[-1].split("\n", 1)[1]
    interpreter = f'python() {{ "{sys.executable}" "$@"; }}; python3() {{ python "$@"; }}\n'
    for script in scripts:
        subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", interpreter + script],  # noqa: S607
            cwd=folder,
            env={"PATH": os.environ["PATH"], "GITHUB_REPOSITORY": "acme/antidote-ci", "COMMIT": COMMIT},
            check=True,
            capture_output=True,
        )
    return folder / "dist"


def test_package_is_a_wheel_and_its_source(dist: Path) -> None:
    """The file names are those that the attestation, the artifact and the release take: dist/*."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    package = {step.get("uses", "").split("@")[0]: step.get("with") for step in workflow["jobs"]["package"]["steps"]}
    assert package["actions/attest"] == {"subject-path": "dist/*"}
    assert package["actions/upload-artifact"]["path"] == "dist/"
    attested = sorted(path.name for path in dist.parent.glob("dist/*"))
    assert attested == [f"antidote_ci-{__version__}-py3-none-any.whl", f"antidote_ci-{__version__}.tar.gz"]


def test_wheel_contains_the_package_and_its_templates_only(dist: Path) -> None:
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        metadata = email.message_from_bytes(wheel.read(f"antidote_ci-{__version__}.dist-info/METADATA"))
        points = wheel.read(f"antidote_ci-{__version__}.dist-info/entry_points.txt").decode()
        init = wheel.read(release.ACTION_FILE).decode()
    tracked = git(ROOT, "ls-files", "antidote_ci", "templates").splitlines()
    assert names == {
        re.sub("^templates/", "antidote_ci/templates/", name) for name in tracked if (ROOT / name).is_file()
    }
    assert metadata["Version"] == __version__
    assert metadata["License-File"] == "LICENSE"
    assert "antidote-ci = antidote_ci.__main__:" in points
    assert f'ACTION = "acme/antidote-ci@{COMMIT}"' in init
    description = str(metadata.get_payload())
    links = re.findall(r"\]\(([^)]+)\)", description)
    assert len(links) > 20
    assert not [link for link in links if not link.startswith("https://")]


def test_source_builds_the_same_wheel(dist: Path, tmp_path: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as source:
        source.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    left_out = {"tests", "benchmarks", "demo", "loopback_hub", "scripts", "docs", ".github"}
    assert not left_out & {path.name for path in folder.iterdir()}
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (built,), (released,) = (folder / "dist").glob("*.whl"), dist.glob("*.whl")
    assert built.read_bytes() == released.read_bytes()


def test_older_release_does_not_move_the_floating_tag(checkout: Path) -> None:
    origin = checkout.parent / "origin.git"
    major = __version__.split(".")[0]
    git(checkout, "push", "--quiet", "origin", f"HEAD:refs/tags/v{major}", f"HEAD:refs/tags/v{major}.999.0")
    newer = git(origin, "rev-parse", f"v{major}")
    commit = job(checkout, "tag", **DIGESTS)["commit"]
    job(checkout, "announce", COMMIT=commit)
    assert git(origin, "rev-parse", f"v{major}") == newer != commit


def test_existing_tag_is_not_moved(checkout: Path) -> None:
    job(checkout, "tag", **DIGESTS)
    before = git(checkout.parent / "origin.git", "rev-parse", f"v{__version__}")
    git(checkout, "reset", "--quiet", "--hard", "HEAD~1")
    with pytest.raises(AssertionError, match="already exists"):
        job(checkout, "tag", **DIGESTS | {"CPU": "sha256:" + "d" * 64})
    assert git(checkout.parent / "origin.git", "rev-parse", f"v{__version__}") == before
