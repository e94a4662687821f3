"""A store of JSON values on disk, such as answers and verdicts, each under the hash of everything that it depends on.

Only the parent process opens it. A child that runs a model never sees its folder.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from antidote_ci.paths import open_below, require_real_folder

FORMAT = 2
"""The version of entries. The keys of format 1 did not cover every file of the model, so its entries are ignored."""


class AnswerStore:
    """A folder of values that only its owner may read, because they may be completions of a model.

    Several processes may use it at once: an entry is written to a temporary file, renamed, and never changed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def key(*parts: object) -> str:
        """The sha256 in hex of the parts as canonical JSON. Raises TypeError for a part that is not JSON."""
        return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def get(self, key: str) -> Any | None:  # noqa: ANN401 - any JSON
        """The value, or None when there is none or its file is damaged."""
        try:
            with open_below(self._folder, f"{key[:2]}/{key}.json") as file:
                entry = json.loads(file.read())
        except (OSError, ValueError, RecursionError):
            return None
        # The digest detects truncated values: half of a number is still a number.
        valid = (
            isinstance(entry, dict)
            and entry.get("format") == FORMAT
            and entry.get("key") == key
            and "value" in entry
            and entry.get("sha256") == _hash_value(entry["value"])
        )
        return entry["value"] if valid else None

    def put(self, key: str, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Store `value`, which must be JSON and not None."""
        path = self._folder / key[:2] / f"{key}.json"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        require_real_folder(path.parent, "choose another folder for the answer cache", mode=0o700)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"format": FORMAT, "key": key, "sha256": _hash_value(value), "value": value}, file)
            Path(partial).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(partial).unlink()
            raise


def _hash_value(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
