"""Which files of a repository are touched at all, and where they may really lie."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from antidote_ci.errors import UnsafeCheckpoint

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

# Keras' HDF5 and msgpack are no pickles, but as able to run or crash what opens them; archives may hold either.
_PICKLED = re.compile(
    r".*\.(?:bin|pt|pth|ptl|pkl|pckl|p|pickle|ckpt|joblib|dill|npy|npz|h5|hdf5|keras|msgpack|mar|nemo|pdparams|7z)",
    re.IGNORECASE | re.DOTALL,
)
_TRAINING_STATE = ("optimizer", "rng_state", "scheduler", "training_args")


def is_allowed_file(path: str) -> bool:
    """Whether `path`, relative to a repository and with forward slashes, is ever downloaded or opened."""
    # "..safetensors" and the like match no pattern that a real repository needs.
    return _ALLOWED.fullmatch(path) is not None and not path.startswith(".")


def is_pickled(path: str) -> bool:
    """Whether opening the file in the usual way could run code."""
    return _PICKLED.fullmatch(path) is not None


def is_pickled_weights(path: str) -> bool:
    """Whether the file may hold a model in place of safetensors, and is not only what training leaves behind."""
    return is_pickled(path) and not Path(path).name.startswith(_TRAINING_STATE)


def is_report_file(path: str) -> bool:
    """Whether the file speaks of one result of ours: never carried over to another."""
    return path == "SHA256SUMS" or path.startswith("antidote/")


def sha256_file(path: Path, chunk: int = 1 << 20) -> str:
    """The file's sha256 in hex, read `chunk` bytes at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(chunk):
            digest.update(data)
    return digest.hexdigest()


def display_name(folder: Path) -> str:
    """What people call a checkpoint's folder: ORG/NAME where it is a snapshot in the Hub client's cache."""
    repository = _cache_repository(folder)
    return repository.name.removeprefix("models--").replace("--", "/") if repository else folder.name


def list_files(folder: Path) -> list[str]:
    """The allowed regular files of `folder`, relative, sorted. None is opened.

    Raises UnsafeCheckpoint for a link that leaves the folder, and for what is no file: a pipe would never end. The Hub
    client's cache is the one exception: there a snapshot's files are links to the cache's blobs.
    """
    root = folder.resolve()
    homes = (root, *_blob_folders(root))
    found = []
    for path in _iterate_files(root):
        name = path.relative_to(root).as_posix()
        if not is_allowed_file(name):
            continue
        # Not Path.resolve: it raises for links that lead in a circle.
        target = Path(os.path.realpath(path))
        if not any(target.is_relative_to(home) for home in homes):
            raise UnsafeCheckpoint(
                f"{name} is a link to a place outside {folder}",
                cause="a repository must not point at other files of this machine",
                hint="replace the link by the file itself",
            )
        if _is_regular(name, target):
            found.append(name)
    return sorted(found)


def loadable(folder: Path) -> list[str]:
    """The regular files that a loader of `folder` can open, relative, sorted. None is opened.

    Loaders look in the folder itself and in its folders of templates. They look for more names than are
    `is_allowed_file`, and a configuration can name others, so no file is left out by its name.
    """
    return sorted(path.relative_to(folder).as_posix() for path in _iterate_files(folder) if path.is_file())


def _is_regular(name: str, target: Path) -> bool:
    """False for a folder, and for what is not there."""
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UnsafeCheckpoint(
            f"{name} is no file but a pipe, a device, a socket or a circle of links",
            cause="reading it may never end, or act on this machine",
            hint="replace it by the file itself",
        )
    return stat.S_ISREG(mode)


def _iterate_files(root: Path) -> Iterator[Path]:
    # Everything allowed lies at the top or one folder down: a deep tree is not walked.
    yield from root.iterdir()
    for subfolder in ("additional_chat_templates", "antidote"):
        if (root / subfolder).is_dir():
            yield from (root / subfolder).iterdir()


def _blob_folders(root: Path) -> tuple[Path, ...]:
    """Where the links of a snapshot in the Hub client's cache end.

    A repository's own blobs may in turn be links to those that all repositories share.
    """
    repository = _cache_repository(root)
    return (repository / "blobs", repository.parent / "blobs") if repository else ()


def _cache_repository(folder: Path) -> Path | None:
    """The repository of models--org--name/snapshots/<commit>; None for another folder."""
    repository = folder.parent.parent
    return repository if folder.parent.name == "snapshots" and repository.name.startswith("models--") else None
