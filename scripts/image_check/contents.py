"""Runs inside the image: checks required and forbidden contents, and exits with 1 if there are errors."""

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

SERVICE = ("fastapi", "uvicorn", "antidote_ci.service", "torch", "transformers", "peft")
PROGRAMS = ("pip", "pip3", "gcc", "cc", "g++", "clang", "ld", "make")
INSTALLERS = ("pip", "ensurepip")
WRITABLE = ("/tmp", "/var/tmp", "/run/lock", "/cache", "/workspace", "/check")  # noqa: S108 - only compared
"""Folders of the image and of Debian that all users may write to."""
KERNEL = ("/proc", "/sys", "/dev")


def find_errors() -> Iterator[str]:
    """Yield a description of every error."""
    for name in SERVICE:
        try:
            importlib.import_module(name)
        except ImportError as error:
            yield f"{name} cannot be imported: {error}"
    yield from (f"{name} is required but not installed" for name in missing("antidote-ci", "service"))
    yield from (f"{path} exists" for name in PROGRAMS if (path := shutil.which(name)))
    for folder in (*map(Path, sys.path), *Path("/usr").glob("**/*-packages"), *Path("/usr").glob("lib*/python3*")):
        yield from (f"{folder / name} exists" for name in INSTALLERS if (folder / name).exists())
    yield from (f"{path} is writable" for path in writable(Path("/")))


def missing(root: str, *extras: str) -> set[str]:
    """Return the direct and indirect requirements of `root` that are not installed."""
    absent, seen, queue = set(), set(), [(root, extras)]
    while queue:
        key = queue.pop()
        if key in seen:
            continue
        seen.add(key)
        try:
            requirements = metadata.requires(key[0]) or ()
        except metadata.PackageNotFoundError:
            absent.add(key[0])
            continue
        for requirement in map(Requirement, requirements):
            applies = (requirement.marker is None or requirement.marker.evaluate({"extra": e}) for e in (*key[1], ""))
            if any(applies):
                queue.append((requirement.name, tuple(sorted(requirement.extras))))
    return absent


def writable(folder: Path) -> Iterator[Path]:
    """Yield the paths under `folder` that are writable but should not be."""
    for entry in os.scandir(folder):
        if entry.path in (*WRITABLE, *KERNEL) or entry.is_symlink():
            continue
        if os.access(entry.path, os.W_OK):
            yield Path(entry.path)
        elif entry.is_dir() and os.access(entry.path, os.R_OK | os.X_OK):
            yield from writable(Path(entry.path))


if __name__ == "__main__":
    messages = list(find_errors())
    print(*messages, sep="\n")
    sys.exit(1 if messages else 0)
