"""Evaluates the expressions of workflow files: the part of the language that our workflows use.

Follows src/Sdk/DTExpressions2 of actions/runner 2.336.0: LexicalAnalyzer.cs, EvaluationResult.cs, ExpressionUtility.cs.
Not supported, and refused: ordering operators, `*`, and all functions but those of a status and `hashFiles`.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

Contexts = Mapping[str, Any]
"""Name of a context -> its value: text, number, bool, None, or a mapping of those."""

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w-])
    |(?P<operator>\|\||&&|==|!=|[!()\[\].,])
    |'(?P<text>(?:[^']|'')*)'
    |(?P<keyword>[A-Za-z_][\w-]*)
    )""",
    re.VERBOSE | re.ASCII,
)
_EXPRESSION = re.compile(r"\$\{\{((?:[^'}]|'[^']*'|}(?!}))*)}}")
_LITERALS = {"null": None, "true": True, "false": False}
STATUS_FUNCTIONS = {
    "always": ("success", "failure", "cancelled"),
    "success": ("success",),
    "failure": ("failure",),
    "cancelled": ("cancelled",),
}
"""Function -> the statuses of the job at which it is true."""


def fill(template: object, contexts: Contexts) -> str:
    """Replace the expressions in a value of a YAML file, and return it as text."""
    if not isinstance(template, str):
        return to_text(template)
    return _EXPRESSION.sub(lambda match: to_text(evaluate(match[1], contexts)), template)


def holds(condition: object, contexts: Contexts) -> bool:
    """Evaluate an `if`. Without a status function it also requires success (PipelineTemplateConverter.cs)."""
    text = to_text(condition).strip() or "success()"
    text = match[1] if (match := _EXPRESSION.fullmatch(text)) else text
    calls = (name for (_, name), after in pairwise(_tokens(text)) if after == ("operator", "("))
    if not any(name in STATUS_FUNCTIONS for name in calls):
        text = f"success() && ({text})"
    return is_truthy(evaluate(text, contexts))


def evaluate(expression: str, contexts: Contexts) -> object:
    """Return the value of an expression. Raises ValueError for what is not supported.

    The status functions read the context `job.status`.
    """
    parser = _Parser(list(_tokens(expression)), contexts)
    value = parser.read_or()
    parser.expect_end()
    return value


def hash_files(workspace: Path, patterns: Sequence[str]) -> str:
    """Return the hash of the files that match a pattern, or the empty text without one, like `hashFiles`."""
    files = sorted({path for pattern in patterns for path in workspace.glob(pattern) if path.is_file()})
    digests = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)
    return hashlib.sha256(digests).hexdigest() if files else ""


def is_truthy(value: object) -> bool:
    return value is not None and value is not False and value != "" and value != 0 and value == value


def to_text(value: object) -> str:
    """Convert like ConvertToString of EvaluationResult.cs."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return format(float(value), ".15G")
        case str():
            return value
    return "Object"


def equal(left: object, right: object) -> bool:
    """Compare text without case, and values of different kinds as numbers. An object equals only itself."""
    if isinstance(left, str) and isinstance(right, str):
        return left.casefold() == right.casefold()
    if left is None and right is None:
        return True
    if isinstance(left, Mapping) or isinstance(right, Mapping):
        return left is right
    return _to_number(left) == _to_number(right)


def _to_number(value: object) -> float:
    if isinstance(value, int | float):  # bool is an int
        return float(value)
    try:
        return float(to_text(value).strip() or 0)
    except ValueError:
        return float("nan")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each token."""
    at, text = 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise ValueError(f"not supported: {text[at:]!r} in {text!r}")
        yield match.lastgroup, match[match.lastgroup]
        at = match.end()


class _Parser:
    """A recursive descent parser that evaluates. `read_*` has the operators from the weakest to the strongest."""

    def __init__(self, tokens: list[tuple[str, str]], contexts: Contexts) -> None:
        self._tokens = tokens
        self._contexts = contexts

    def expect_end(self) -> None:
        if self._tokens:
            raise ValueError(f"unexpected {self._tokens[0][1]!r}")

    def read_or(self) -> object:
        value = self._read_and()
        while self._skip("||"):
            other = self._read_and()
            value = value if is_truthy(value) else other
        return value

    def _read_and(self) -> object:
        value = self._read_equality()
        while self._skip("&&"):
            other = self._read_equality()
            value = other if is_truthy(value) else value
        return value

    def _read_equality(self) -> object:
        value = self._read_not()
        while True:
            if self._skip("=="):
                value = equal(value, self._read_not())
            elif self._skip("!="):
                value = not equal(value, self._read_not())
            else:
                return value

    def _read_not(self) -> object:
        return not is_truthy(self._read_not()) if self._skip("!") else self._read_property()

    def _read_property(self) -> object:
        value = self._read_primary()
        while True:
            if self._skip("."):
                value = _read_member(value, self._take("keyword"))
            elif self._skip("["):
                value = _read_member(value, to_text(self.read_or()))
                self._require("]")
            else:
                return value

    def _read_primary(self) -> object:
        if self._skip("("):
            value = self.read_or()
            self._require(")")
            return value
        kind, text = self._tokens.pop(0) if self._tokens else ("", "the end")
        match kind:
            case "text":
                return text.replace("''", "'")
            case "number":
                return float(text)
            case "keyword" if text in _LITERALS:
                return _LITERALS[text]
            case "keyword" if self._skip("("):
                if text == "hashFiles":
                    patterns = [to_text(self.read_or())]
                    while self._skip(","):
                        patterns.append(to_text(self.read_or()))
                    self._require(")")
                    return hash_files(Path(self._contexts["github"]["workspace"]), patterns)
                self._require(")")
                if text not in STATUS_FUNCTIONS:
                    raise ValueError(f"the function {text} is not supported")
                return self._contexts["job"]["status"] in STATUS_FUNCTIONS[text]
            case "keyword" if text in self._contexts:
                return self._contexts[text]
        raise ValueError(f"unexpected {text!r}")

    def _skip(self, operator: str) -> bool:
        if self._tokens[:1] != [("operator", operator)]:
            return False
        del self._tokens[0]
        return True

    def _require(self, operator: str) -> None:
        if not self._skip(operator):
            raise ValueError(f"{operator!r} is missing")

    def _take(self, kind: str) -> str:
        if not self._tokens or self._tokens[0][0] != kind:
            raise ValueError(f"a {kind} is missing")
        return self._tokens.pop(0)[1]


def _read_member(value: object, name: str) -> object:
    """Return a member, or None if there is none. Names are compared without case, as in most contexts."""
    members = value.items() if isinstance(value, Mapping) else ()
    return next((member for key, member in members if key.casefold() == name.casefold()), None)
