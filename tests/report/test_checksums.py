"""SHA256SUMS, read by the real `sha256sum`."""

import subprocess
from pathlib import Path

import pytest

from antidote_ci.report import compute_checksums

NAMES = [
    "model.safetensors",
    "config.json",
    "antidote/manifest.json",
    "antidote/report.html",
    "-n",
    "a b",
    "é\\n\\",
    "new\nline",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, name in enumerate([*NAMES, "README.md", "nested/README.md"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x00" * index)
    (tmp_path / "SHA256SUMS").write_text(compute_checksums(tmp_path))
    return tmp_path


def check(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_file_but_the_card_and_the_list_is_there(folder: Path) -> None:
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    listed = [line.partition("  ")[2] for line in lines]
    escaped = [name.replace("\\", "\\\\").replace("\n", "\\n") for name in sorted([*NAMES, "nested/README.md"])]
    assert listed == escaped
    done = check(folder)
    assert (done.returncode, done.stdout.count(": OK")) == (0, len(NAMES) + 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_byte_more_is_seen(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.write(b"x")
    assert check(folder).returncode == 1


def test_the_list_is_the_same_again_and_the_card_may_change(folder: Path) -> None:
    first = (folder / "SHA256SUMS").read_text()
    (folder / "README.md").write_text("edited")
    assert compute_checksums(folder) == first
    assert check(folder).returncode == 0
