"""The parts of the image check that work without a container engine."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.image_check import contents, wheels
from scripts.image_check.engine import mounts

METADATA = "Metadata-Version: 2.1\nName: torch\nVersion: 9.0+cpu\n"
TAGS = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "torch-9.0+cpu-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("torch-9.0+cpu.dist-info/METADATA", METADATA)
        file.writestr("torch-9.0+cpu.dist-info/WHEEL", TAGS)
        file.writestr("torch-9.0+cpu.dist-info/RECORD", "")
    return path


def test_pip_installs_torch_from_the_index_by_its_hash(wheel: Path, tmp_path: Path) -> None:
    with wheels.index(tmp_path / "served", wheel) as arguments:
        (tmp_path / "torch.txt").write_text(f"torch==9.0 --hash=sha256:{arguments['TORCH_SHA256']}\n")
        command = [
            "download",
            "--isolated",
            "--no-deps",
            f"--index-url={arguments['TORCH_INDEX']}",
            f"--dest={tmp_path / 'got'}",
        ]
        completed = subprocess.run(
            [sys.executable, "-m", "pip", *command, f"--requirement={tmp_path / 'torch.txt'}"],
            check=False,
            capture_output=True,
            text=True,
            env={"PIP_CONFIG_FILE": "/dev/null"},
        )
    assert completed.returncode == 0, completed.stderr
    downloaded = (tmp_path / "got" / wheel.name).read_bytes()
    assert hashlib.sha256(downloaded).hexdigest() == arguments["TORCH_SHA256"]


def test_missing_requirements_are_named() -> None:
    assert contents.missing("antidote-ci", "service") == set()
    assert contents.missing("antidote-nowhere") == {"antidote-nowhere"}


def test_mounted_folders_are_writable_for_all_users(tmp_path: Path) -> None:
    assert mounts({"/cache": tmp_path / "cache"}) == [f"--volume={tmp_path}/cache:/cache"]
    assert (tmp_path / "cache").stat().st_mode & 0o7777 == 0o1777
