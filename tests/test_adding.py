"""The diffs of the guides docs/adding-*.md apply to this tree, and the checks pass with them."""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GIT = shutil.which("git") or "git"
PAGES = sorted(ROOT.glob("docs/adding-*.md"))
CHECKED = ("tests/test_tables.py", "tests/test_documents.py")
"""Tests to run in addition to those that a diff changes."""


def read_diff(page: Path) -> str:
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return str(diff)


def changed_tests(diff: str) -> list[str]:
    return re.findall(r"^\+\+\+ b/(tests/\S*test_\S+)$", diff, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_diff_of_a_guide_applies(page: Path) -> None:
    completed = subprocess.run(
        [GIT, "apply", "--check"], cwd=ROOT, input=read_diff(page), capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr
    assert changed_tests(read_diff(page)), "the diff has no test"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_checks_pass_with_the_diff_of_a_guide(page: Path, tmp_path: Path) -> None:
    tree, python = tmp_path / "tree", tmp_path / "environment" / "bin" / "python"
    files = subprocess.run([GIT, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in files:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    # Child processes import antidote_ci only from installed packages, so put this tree first there.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", python.parents[1]], check=True)
    (packages,) = python.parents[1].glob("lib/*/site-packages")
    (packages / "tree.pth").write_text(f"{tree}\n{sysconfig.get_path('purelib')}\n")
    diff = read_diff(page)
    subprocess.run([GIT, "apply"], cwd=tree, input=diff, text=True, check=True)
    for command in (
        ["-m", "scripts.tables"],
        ["-m", "ruff", "check", "--quiet", "."],
        ["-m", "ruff", "format", "--check", "--quiet", "."],
        ["-m", "mypy", "--no-incremental", "antidote_ci"],
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", *changed_tests(diff), *CHECKED],
    ):
        completed = subprocess.run([python, *command], cwd=tree, capture_output=True, text=True, check=False)
        assert completed.returncode == 0, f"{command}\n{completed.stdout}\n{completed.stderr}"
