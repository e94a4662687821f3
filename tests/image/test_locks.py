"""The lock files of the image match constraints.txt and pyproject.toml, with hashes."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts import lock

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", lock.PINNED)
def test_lock_has_the_required_packages_at_their_pinned_versions(name: str) -> None:
    if name == "demo":
        pytest.importorskip("gguf", reason="needs gguf, which `make demo` installs")
    if name != "build" and torch.version.cuda:
        pytest.skip("the CUDA build of torch requires additional packages")
    required, versions = lock.required_packages(name), lock.read_constraints()
    locked = lock.read_lock(name)
    assert {package: version for package, (version, _) in locked.items()} == {
        package: versions[package] for package in required
    }


def test_cuda_lock_has_only_packages_that_are_not_pinned_elsewhere() -> None:
    locked = lock.read_lock("cuda")
    assert locked.pop("torch")[0] == lock.read_constraints()["torch"]
    assert locked
    assert not locked.keys() & lock.read_constraints().keys()


@pytest.mark.parametrize("name", [*lock.PINNED, "cuda"])
def test_every_package_has_hashes_and_no_url(name: str) -> None:
    text = (lock.LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    assert "//" not in text
    for package, (_, hashes) in lock.read_lock(name).items():
        assert hashes, package
        assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in hashes), package
        assert len(hashes) == len(set(hashes))


def test_pip_rejects_a_file_with_another_hash(tmp_path: Path) -> None:
    """pip opens the wheel of the locked version, and refuses its bytes."""
    [entry] = re.findall(
        r"^tomlkit==.*(?:\n    .*)+\n", (lock.LOCKS / "build.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(entry, encoding="utf-8")
    version, [locked] = lock.read_lock("build")["tomlkit"]
    wheel = tmp_path / f"tomlkit-{version}-py3-none-any.whl"
    wheel.write_bytes(b"something else")
    command = ["install", "--dry-run", "--no-deps", "--no-index", f"--find-links={tmp_path}", "--ignore-installed"]
    completed = subprocess.run(
        [sys.executable, "-m", "pip", *command, "--require-hashes", f"--requirement={requirements}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode != 0
    assert "DO NOT MATCH THE HASHES" in completed.stderr
    assert locked in completed.stderr
    assert hashlib.sha256(b"something else").hexdigest() in completed.stderr


def test_dockerfile_pins_the_same_torch() -> None:
    assert f'"torch=={lock.read_constraints()["torch"]} ' in DOCKERFILE
    pinned = re.search(r'ARG TORCH_SHA256="([^"]*)"', DOCKERFILE)
    assert pinned
    hashes = pinned[1].replace("\\\n", "").split()
    assert len(set(hashes)) == len(lock.PYTHONS) * len(lock.MACHINES)
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in hashes)


def test_base_image_is_pinned_by_digest() -> None:
    bases = re.findall(r"^(?:ARG BASE_IMAGE=|FROM )(\S+)", DOCKERFILE, re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    external = [base for base in bases if base not in stages and base != "${BASE_IMAGE}"]
    assert len(external) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", external[0])


def test_dockerignore_admits_exactly_the_copied_files() -> None:
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {
        source for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for source in line.split()
    }
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source.split('/')[0]}" in allowed, source
    assert {line[1:] for line in allowed if line.startswith("!")} == {source.split("/")[0] for source in copied}
