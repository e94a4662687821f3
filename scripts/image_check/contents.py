"""Run inside the image by its own Python: what must be there, and what must not. Prints what is wrong; exit code 1."""

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
WRITABLE = ("/tmp", "/var/tmp", "/run/lock", "/cache", "/workspace", "/check")  # noqa: S108 - looked at, not written to
"""Ours, and what Debian leaves open to everybody."""
KERNEL = ("/proc", "/sys", "/dev")


def wrong() -> Iterator[str]:
    """Everything that is not as it should be."""
    for name in SERVICE:
        try:
            importlib.import_module(name)
        except ImportError as error:
            yield f"{name} cannot be imported: {error}"
    yield from (f"{lacked} is required and not there" for lacked in missing("antidote-ci", "service"))
    yield from (f"{path} is there" for name in PROGRAMS if (path := shutil.which(name)))
    for place in (*map(Path, sys.path), *Path("/usr").glob("**/*-packages"), *Path("/usr").glob("lib*/python3*")):
        yield from (f"{place / name} is there" for name in INSTALLERS if (place / name).exists())
    yield from (f"{path} can be written to" for path in writable(Path("/")))


def missing(root: str, *extras: str) -> set[str]:
    """Names that `root` needs here, directly or not, and that are not installed."""
    lacked, seen, waiting = set(), set(), [(root, extras)]
    while waiting:
        asked = waiting.pop()
        if asked in seen:
            continue
        seen.add(asked)
        try:
            needed = metadata.requires(asked[0]) or ()
        except metadata.PackageNotFoundError:
            lacked.add(asked[0])
            continue
        for requirement in map(Requirement, needed):
            applies = (requirement.marker is None or requirement.marker.evaluate({"extra": e}) for e in (*asked[1], ""))
            if any(applies):
                waiting.append((requirement.name, tuple(sorted(requirement.extras))))
    return lacked


def writable(folder: Path) -> Iterator[Path]:
    """Places under `folder` that whoever runs this may write to, though they should not."""
    for entry in os.scandir(folder):
        if entry.path in (*WRITABLE, *KERNEL) or entry.is_symlink():
            continue
        if os.access(entry.path, os.W_OK):
            yield Path(entry.path)
        elif entry.is_dir() and os.access(entry.path, os.R_OK | os.X_OK):
            yield from writable(Path(entry.path))


if __name__ == "__main__":
    found = list(wrong())
    print(*found, sep="\n")
    sys.exit(1 if found else 0)
