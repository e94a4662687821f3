"""Stores file contents by sha256, and computes git and git-lfs ids."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from antidote_ci.records import SHA256
from loopback_hub.records import FileEntry

CHUNK = 1 << 20
LARGE = 10 << 20
"""Size in bytes from which the Hub requires git-lfs for every file: its documents say 10 MB."""
LARGE_SUFFIXES = {".safetensors", ".bin", ".gguf", ".pt", ".pth", ".ckpt", ".pkl", ".onnx", ".xz"}


def replace_file(path: Path, text: str) -> None:
    """Write a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


class ReadableStream(Protocol):
    """A file or the body of a request."""

    def read(self, size: int = -1, /) -> bytes: ...


class BlobStore:
    """A folder of blobs, which are written atomically."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path | None:
        """Return the path of the blob, or None if it does not exist."""
        path = self.folder / sha256
        return path if SHA256.fullmatch(sha256) and path.is_file() else None

    def put(self, stream: ReadableStream, expected: str | None = None) -> tuple[str, int]:
        """Store the content and return its sha256 and size. Raises ValueError if the sha256 is not `expected`."""
        digest, size = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as written:
            part = Path(written.name)
            try:
                for chunk in read_chunks(stream):
                    digest.update(chunk)
                    size += len(chunk)
                    written.write(chunk)
                written.flush()
                sha256 = digest.hexdigest()
                if expected not in (None, sha256):
                    raise ValueError(f"the content's sha256 is {sha256}, not {expected}")
                part.replace(self.folder / sha256)
            finally:
                part.unlink(missing_ok=True)
        return sha256, size

    def put_file(self, path: str, stream: ReadableStream) -> FileEntry:
        """Store the file as the Hub would under this path: in git or in git-lfs."""
        sha256, size = self.put(stream)
        return large_entry(sha256, size) if is_large(path, size) else self.put_regular(sha256, size)

    def put_regular(self, sha256: str, size: int) -> FileEntry:
        """The entry of a file that is not in git-lfs."""
        return FileEntry(sha256, hash_git_blob((self.folder / sha256).read_bytes()), size, None)


def large_entry(sha256: str, size: int) -> FileEntry:
    """The entry of a file in git-lfs. https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return FileEntry(sha256, hash_git_blob(pointer.encode()), size, len(pointer))


def is_large(path: str, size: int) -> bool:
    """Whether a file belongs into git-lfs. An empty file never does."""
    return size > 0 and (PurePosixPath(path).suffix in LARGE_SUFFIXES or size > LARGE)


def hash_git_blob(content: bytes) -> str:
    """Return the git blob id."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def read_chunks(stream: ReadableStream) -> Iterator[bytes]:
    """Read the rest of `stream` in chunks of 1 MiB."""
    return iter(lambda: stream.read(CHUNK), b"")
