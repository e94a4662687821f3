"""Folders of links to the files of a checkpoint, and the fingerprint of these files.

A loader gets such a folder in place of the original, so it can open only the files that were listed and hashed.
"""

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint.files import FileIdentity, cache_repository, identify_file, list_loadable, sha256_file
from antidote_ci.errors import ConfigurationError
from antidote_ci.records import Model


@dataclass(frozen=True)
class FileState:
    """A file by its path relative to the folder, and its identity, which changes when its content does."""

    name: str
    identity: FileIdentity


@dataclass(frozen=True)
class LinkedCheckpoint:
    """A folder of links. `targets` are the files outside of the folder that symbolic links lead to."""

    folder: Path
    targets: list[Path]


def list_states(path: Path) -> tuple[FileState, ...]:
    """The states of the loadable files of a folder, or of one file. Raises ConfigurationError when there is none."""
    try:
        names = list_loadable(path) if path.is_dir() else [""]
        return tuple(FileState(name, identify_file(path / name)) for name in names)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}", hint="check the path and its permissions"
        ) from None


def link_checkpoint(source: Path, names: Sequence[str], parent: Path) -> LinkedCheckpoint:
    """Link the files `names` of `source` into a new folder below `parent`, which keeps the name of the checkpoint.

    Raises ConfigurationError for a file that this process cannot read.
    """
    source = source.absolute()
    repository = cache_repository(source)
    folder = parent / (source.relative_to(repository.parent) if repository else source.name)
    folder.mkdir(parents=True)
    targets = []
    for name in names:
        original, link = Path(os.path.realpath(source / name)), folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not _is_readable_without_privileges(original):
            _copy_file(original, link)
            continue
        try:
            # A server in a container can read hard links, but not the targets of symbolic links.
            link.hardlink_to(original)
        except OSError:  # on another disk, or owned by another user
            link.symlink_to(original)
            targets.append(original)
    return LinkedCheckpoint(folder, targets)


def _copy_file(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise ConfigurationError(
            f"{source} cannot be read or copied: {error.strerror}",
            cause="the process that runs the model has no privileges, so it needs a copy",
            hint="make the checkpoint readable with `chmod -R a+rX FOLDER`, or run as its owner",
        ) from None


def model_fingerprint(model: Model) -> str:
    """The sha256 in hex over all that can change an answer: the role, relative path and content of every file.

    Of an edit: its files, tensors and dose.
    """
    entries: list[list[object]] = [
        [role, name, _cached_sha256(path, identify_file(path))]
        for path, (role, name) in list_model_files(model).items()
    ]
    if model.edit is not None:
        entries.append(["edit", model.edit.dose, *model.edit.tensors])
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def list_model_files(model: Model) -> dict[Path, tuple[str, str]]:
    """Every file that can change an answer, with its role (`model`, `adapter`, ...) and relative path."""
    folders = {"model": model.folder}
    if model.adapter is not None:
        folders["adapter"] = model.adapter
    if model.edit is not None and model.edit.reference is not None:
        folders["reference"] = model.edit.reference
    files = {folder / name: (role, name) for role, folder in folders.items() for name in list_loadable(folder)}
    if model.edit is not None and model.edit.masks is not None:
        # Its name is that of the dose.
        files[model.edit.masks / model.edit.mask] = ("mask", "")
    return files


@functools.lru_cache(maxsize=1024)
def _cached_sha256(path: Path, _identity: FileIdentity) -> str:
    # Weights are large, and a run asks for the fingerprint of one model several times.
    return sha256_file(path)


def _is_readable_without_privileges(path: Path) -> bool:
    """Whether the child, which has this process's user and no capabilities, can read the file."""
    status = path.stat()
    if status.st_uid == os.geteuid():
        return bool(status.st_mode & 0o400)
    if status.st_gid in (os.getegid(), *os.getgroups()):
        return bool(status.st_mode & 0o040)
    return bool(status.st_mode & 0o004)
