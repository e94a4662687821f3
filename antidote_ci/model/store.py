"""What was computed once and need not be again: JSON values under the hash of everything that decided them."""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

FORMAT = 2
"""Of entries. Those of format 1 have keys that did not cover every file of the model, and are not read."""


class JsonCache:
    """A folder of values, for its owner's eyes: they may be what a model wrote.

    Several processes may use one: an entry is written beside and renamed in, and never changed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def key(*parts: object) -> str:
        """The sha256 in hex of the parts as canonical JSON. Raises TypeError for a part that is not JSON."""
        return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def get(self, key: str) -> Any | None:  # noqa: ANN401 - any JSON
        """The value, or None: never put, or damaged since."""
        try:
            entry = json.loads(self._path(key).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        # The entry carries its own digest: half of a number is still a number.
        return entry["value"] if _is_entry(entry, key) else None

    def put(self, key: str, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Keep `value`, which must be JSON and not None."""
        path = self._path(key)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"format": FORMAT, "key": key, "sha256": _hash_value(value), "value": value}, file)
            Path(partial).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(partial).unlink()
            raise

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"


def _hash_value(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _is_entry(entry: object, key: str) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("format") == FORMAT
        and entry.get("key") == key
        and "value" in entry
        and entry.get("sha256") == _hash_value(entry["value"])
    )
