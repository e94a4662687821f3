"""The image's locks: what constraints.txt and pyproject.toml say, each file by its hash."""

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
def test_a_lock_holds_what_is_needed_at_the_pinned_versions(name: str) -> None:
    if name == "demo":
        pytest.importorskip("gguf", reason="what it needs is read off what is installed: `make demo` installs it")
    if name != "build" and torch.version.cuda:
        pytest.skip("what it needs is read off what is installed, and this torch brings CUDA along")
    needed, versions = lock.packages(name), lock.constraints()
    found = lock.locked(name)
    assert {package: version for package, (version, _) in found.items()} == {each: versions[each] for each in needed}


def test_the_cuda_build_brings_what_nothing_else_names() -> None:
    found = lock.locked("cuda")
    assert found.pop("torch")[0] == lock.constraints()["torch"]
    assert found
    assert not found.keys() & lock.constraints().keys()


@pytest.mark.parametrize("name", [*lock.PINNED, "cuda"])
def test_every_file_is_known_by_its_hash_alone(name: str) -> None:
    text = (lock.LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    assert "//" not in text
    for package, (_, hashes) in lock.locked(name).items():
        assert hashes, package
        assert all(re.fullmatch("[0-9a-f]{64}", each) for each in hashes), package
        assert len(hashes) == len(set(hashes))


def test_pip_reads_the_locks_and_refuses_another_file(tmp_path: Path) -> None:
    wheel = tmp_path / "tomlkit-0.15.2-py3-none-any.whl"
    wheel.write_bytes(b"something else")
    command = ["install", "--dry-run", "--no-deps", "--no-index", f"--find-links={tmp_path}", "--ignore-installed"]
    locked = ["--require-hashes", f"--requirement={lock.LOCKS / 'build.txt'}"]
    done = subprocess.run([sys.executable, "-m", "pip", *command, *locked], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "hatchling" in done.stderr  # the first of the lock; nothing of it lies here


def test_the_dockerfile_pins_the_same_torch() -> None:
    assert f"ARG TORCH_VERSION={lock.constraints()['torch']}\n" in DOCKERFILE
    pinned = re.search(r'ARG TORCH_SHA256="([^"]*)"', DOCKERFILE)
    assert pinned
    hashes = pinned[1].replace("\\\n", "").split()
    assert len(set(hashes)) == len(lock.PYTHONS) * len(lock.MACHINES)
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in hashes)


def test_the_base_is_pinned_by_its_digest() -> None:
    bases = re.findall(r"^(?:ARG BASE_IMAGE=|FROM )(\S+)", DOCKERFILE, re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    outside = [base for base in bases if base not in stages and base != "${BASE_IMAGE}"]
    assert len(outside) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", outside[0])


def test_all_that_is_copied_may_enter() -> None:
    admitted = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {
        source for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for source in line.split()
    }
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source.split('/')[0]}" in admitted, source
    assert {line[1:] for line in admitted if line.startswith("!")} == {source.split("/")[0] for source in copied}
