"""SHA256SUMS: every byte of a published folder, in the form that `sha256sum -c` reads."""

from pathlib import Path

from antidote_ci.checkpoint.files import sha256_file

UNLISTED_FILES = ("SHA256SUMS", "README.md")
"""The list itself, and the card, which people edit."""
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r"})


def compute_checksums(folder: Path) -> str:
    """A line for each file of `folder` but UNLISTED, by path. Raises OSError for one that cannot be read."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return "".join(_checksum_line(path, sha256_file(folder / path)) for path in paths if path not in UNLISTED_FILES)


def _checksum_line(path: str, sha256: str) -> str:
    """A backslash in front says that the name is escaped."""
    escaped = path.translate(_ESCAPES)
    return f"{'' if escaped == path else chr(92)}{sha256}  {escaped}\n"
