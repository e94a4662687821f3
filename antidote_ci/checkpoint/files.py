"""Which files of a repository may be opened, and where their links may lead."""

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.errors import InfrastructureError, UnsafeCheckpoint

_ALLOWED = re.compile(
    r"""
      [\w.\-]+\.safetensors (?:\.index\.json)?
    | (?:config|generation_config|adapter_config)\.json
    | (?:tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template)\.json
    | (?:processor|preprocessor)_config\.json
    | vocab\.txt | merges\.txt | tokenizer\.model | spiece\.model | [\w.\-]+\.tiktoken
    | chat_template\.jinja | additional_chat_templates/[\w.\-]+\.jinja
    | README\.md | (?:LICENSE|NOTICE|USE_POLICY)[\w\-]* (?:\.md|\.txt)?
    | antidote/[\w.\-]+\.json | SHA256SUMS
    """,
    re.VERBOSE | re.ASCII,
)

MAX_BYTES = {
    "tokenizer.json": 64 << 20,
    ".safetensors.index.json": 32 << 20,
    "vocab.json": 32 << 20,
    "merges.txt": 32 << 20,
    "vocab.txt": 32 << 20,
    ".model": 32 << 20,
    ".tiktoken": 32 << 20,
    ".jinja": 64 << 10,
}
"""Size limits by the end of the file name. Weights have none."""
MAX_OTHER_BYTES = 4 << 20
"""Size limit of any other file. A tokenizer_config.json lists its added tokens and can reach a megabyte."""

# Keras' HDF5 and msgpack are not pickles, but opening them can run code, too; archives may hold either.
_PICKLED = re.compile(
    r".*\.(?:bin|pt|pth|ptl|pkl|pckl|p|pickle|ckpt|joblib|dill|npy|npz|h5|hdf5|keras|msgpack|mar|nemo|pdparams|7z)",
    re.IGNORECASE | re.DOTALL,
)
_TRAINING_STATE = ("optimizer", "rng_state", "scheduler", "training_args")


SETTLED_SECONDS = 2
"""File systems store times in steps of up to two seconds: https://git-scm.com/docs/racy-git"""


@dataclass(frozen=True)
class FileIdentity:
    """A file and the time of its last change. A program that writes to the file changes the time or the size.

    The time of the last status change would exclude a program that sets the time back, but every link to the file
    changes it, and the sandbox links its inputs.
    """

    device: int
    inode: int
    size: int
    modified: int
    """In nanoseconds."""


def is_allowed_file(path: str) -> bool:
    """Return whether a file is downloaded and opened. `path` is relative to the repository, with forward slashes."""
    return _ALLOWED.fullmatch(path) is not None and not path.startswith(".")


def max_bytes(path: str) -> int | None:
    """Return the size limit of an allowed file; None for weights."""
    if path.endswith(".safetensors"):
        return None
    return next((limit for ending, limit in MAX_BYTES.items() if path.endswith(ending)), MAX_OTHER_BYTES)


def is_pickled(path: str) -> bool:
    """Return whether opening the file in the usual way could run code."""
    return _PICKLED.fullmatch(path) is not None


def is_pickled_weights(path: str) -> bool:
    """Return whether the file may hold a pickled model, as opposed to pickled training state."""
    return is_pickled(path) and not Path(path).name.startswith(_TRAINING_STATE)


def is_report_file(path: str) -> bool:
    """Return whether the file describes one repair or verdict by antidote-ci: it is never copied to another result."""
    return path == "SHA256SUMS" or path.startswith("antidote/")


def sha256_file(path: Path, chunk: int = 1 << 20) -> str:
    """Return the sha256 of a file in hex, reading `chunk` bytes at a time."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(chunk))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def identify_file(file: int | Path) -> FileIdentity:
    """Return the identity of the file with this descriptor, or of the one that this path leads to."""
    return _to_identity(file.stat() if isinstance(file, Path) else os.fstat(file))


def identify_settled_files(folder: Path, names: Iterable[str]) -> dict[str, FileIdentity]:
    """Return the identities of those files of `folder` whose next change gives them another identity.

    A file that was changed in the last two seconds could be changed again without a new time.
    """
    statuses = {name: (folder / name).stat() for name in names}
    latest = time.time_ns() - SETTLED_SECONDS * 10**9
    return {name: _to_identity(status) for name, status in statuses.items() if status.st_mtime_ns < latest}


def _to_identity(status: os.stat_result) -> FileIdentity:
    return FileIdentity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def changed_file_error(name: str, step: str) -> InfrastructureError:
    """Return the error for a file that another program changed since it was opened, hashed or scored."""
    return InfrastructureError(
        f"{name} changed since it was {step}",
        cause="another program writes to it",
        hint="run again when no other program writes to it",
    )


def display_name(folder: Path) -> str:
    """Return ORG/NAME for a snapshot in the cache of the Hub client, else the name of the folder."""
    repository = cache_repository(folder)
    return repository.name.removeprefix("models--").replace("--", "/") if repository else folder.name


_link_targets: list[Path] = []


def allow_link_targets(targets: Iterable[Path]) -> None:
    """Let links lead to these files. The sandbox calls it in a child, whose inputs are links that the parent made."""
    _link_targets.extend(targets)


def list_files(folder: Path) -> list[str]:
    """Return the sorted relative paths of the allowed regular files of `folder`, without opening any.

    Raises UnsafeCheckpoint for a link that leaves the folder, and for a pipe or device. Links may leave the folder only
    in the cache of the Hub client, where the files of a snapshot are links to blobs, and to the files that
    `allow_link_targets` names.
    """
    root = folder.resolve()
    names = []
    for path in _iterate_files(root):
        name = path.relative_to(root).as_posix()
        if is_allowed_file(name) and _is_regular(name, _resolve_link(root, name)):
            names.append(name)
    return sorted(names)


def list_loadable(folder: Path) -> list[str]:
    """Return the sorted relative paths of the regular files that a loader of `folder` can open, without opening any.

    Loaders look in the folder itself and in its folders of templates. They open more names than `is_allowed_file`
    allows, and a configuration can name others, so no file is excluded by its name. Raises UnsafeCheckpoint for a link
    that leaves the folder, as `list_files` does.
    """
    root = folder.resolve()
    names = sorted(path.relative_to(root).as_posix() for path in _iterate_files(root) if path.is_file())
    for name in names:
        _resolve_link(root, name)
    return names


def _resolve_link(root: Path, name: str) -> Path:
    """Return the file that `name` leads to. Raises UnsafeCheckpoint when it may not lead there."""
    target = Path(os.path.realpath(root / name))  # Path.resolve raises for circular links
    if not any(target.is_relative_to(allowed) for allowed in (root, *_blob_folders(root), *_link_targets)):
        raise UnsafeCheckpoint(
            f"{name} is a link to a place outside {root}",
            cause="a repository must not point at other files of this machine",
            hint="replace the link with the file itself",
        )
    return target


def _is_regular(name: str, target: Path) -> bool:
    """Return False for a folder or a missing file. Raises UnsafeCheckpoint for a pipe, device, socket or link loop."""
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UnsafeCheckpoint(
            f"{name} is a pipe, a device, a socket or a link loop, not a regular file",
            cause="reading it may never end, or have side effects on this machine",
            hint="replace it with the file itself",
        )
    return stat.S_ISREG(mode)


def _iterate_files(root: Path) -> Iterator[Path]:
    # All allowed files lie at the top level or in these folders.
    yield from root.iterdir()
    for subfolder in ("additional_chat_templates", "antidote"):
        if (root / subfolder).is_dir():
            yield from (root / subfolder).iterdir()


def _blob_folders(root: Path) -> tuple[Path, ...]:
    """Return the folders that links of a cached snapshot may lead to: the blobs of the repository and shared ones."""
    repository = cache_repository(root)
    return (repository / "blobs", repository.parent / "blobs") if repository else ()


def cache_repository(folder: Path) -> Path | None:
    """Return models--org--name of a snapshot models--org--name/snapshots/<commit>; None for another folder."""
    repository = folder.parent.parent
    return repository if folder.parent.name == "snapshots" and repository.name.startswith("models--") else None
