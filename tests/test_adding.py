"""The worked changes of docs/adding-*.md: they fit this tree, and with them it still passes its checks."""

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
"""Beside the tests that a change touches."""


def change(page: Path) -> str:
    (found,) = re.findall(r"^```diff\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return str(found)


def touched(diff: str) -> list[str]:
    return re.findall(r"^\+\+\+ b/(tests/\S*test_\S+)$", diff, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_worked_change_fits_this_tree(page: Path) -> None:
    done = subprocess.run(
        [GIT, "apply", "--check"], cwd=ROOT, input=change(page), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert touched(change(page)), "it brings a test"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_with_a_worked_change_the_checks_pass(page: Path, tmp_path: Path) -> None:
    tree, python = tmp_path / "tree", tmp_path / "environment" / "bin" / "python"
    named = subprocess.run([GIT, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in named:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    # Children of the program look for it among installed packages alone: there this tree comes first.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", python.parents[1]], check=True)
    (packages,) = python.parents[1].glob("lib/*/site-packages")
    (packages / "tree.pth").write_text(f"{tree}\n{sysconfig.get_path('purelib')}\n")
    diff = change(page)
    subprocess.run([GIT, "apply"], cwd=tree, input=diff, text=True, check=True)
    for command in (
        ["-m", "scripts.tables"],
        ["-m", "ruff", "check", "--quiet", "."],
        ["-m", "ruff", "format", "--check", "--quiet", "."],
        ["-m", "mypy", "--no-incremental", "antidote_ci"],
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", *touched(diff), *CHECKED],
    ):
        done = subprocess.run([python, *command], cwd=tree, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
