"""Patterns of `.gitignore` and `.gitattributes` files. https://git-scm.com/docs/gitignore#_pattern_format"""

import re
from pathlib import PurePosixPath

_TOKENS = re.compile(r"\*\*/|/\*\*$|\*+|\?|\[[^\]]+\]|.")
_EXPRESSIONS = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def is_ignored(rules: str, path: str) -> bool:
    """Whether the text of a `.gitignore` file excludes `path`. The last matching line decides."""
    folders = [str(folder) for folder in PurePosixPath(path).parents]
    ignored = False
    for line in rules.splitlines():
        pattern = line.strip().removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        candidates = folders if pattern.endswith("/") else [path, *folders]
        if any(_matches(pattern, candidate) for candidate in candidates):
            ignored = not line.startswith("!")
    return ignored


def is_in_lfs(attributes: str, path: str) -> bool:
    """Whether the text of a `.gitattributes` file puts `path` into git-lfs. The last matching line decides."""
    large = False
    for line in attributes.splitlines():
        pattern, *values = line.split() or [""]
        filters = [value for value in values if value.startswith(("filter", "-filter", "!filter"))]
        if filters and _matches(pattern, path):
            large = filters[-1] == "filter=lfs"
    return large


def _matches(pattern: str, path: str) -> bool:
    """Whether the pattern is that of the path. A pattern without a slash matches in every folder."""
    body = pattern.rstrip("/")
    expression = "".join(_EXPRESSIONS.get(token, _escape(token)) for token in _TOKENS.findall(body.lstrip("/")))
    return re.fullmatch(expression if "/" in body else f"(?:.*/)?{expression}", path) is not None


def _escape(token: str) -> str:
    """Return a character, or a class of characters in brackets, as a regular expression."""
    return token.replace("[!", "[^", 1) if len(token) > 1 else re.escape(token)
