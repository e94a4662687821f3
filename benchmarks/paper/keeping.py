"""Folders that are made once, and are there whole or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path


def kept(destination: Path, make: Callable[[Path], object]) -> Path:
    """`destination`, which `make` fills where it does not exist yet.

    It grows beside its place and is renamed into it: what a kill leaves is started anew.
    """
    if not destination.exists():
        part = destination.with_name(destination.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        part.rename(destination)
    return destination
