"""The user's own task: when an answer is right, and how long it may be. Pure; choices by likelihood need no text."""

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from antidote_ci.errors import ConfigurationError
from antidote_ci.records import PromptRow

TaskMatch = Literal["exact", "prefix", "last-number", "choice"]

SEPARATORS = "[,'\u00a0\u202f]"
UNSIGNED = rf"(?:(?:\d{{1,3}}(?:{SEPARATORS}\d{{3}})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
# A hyphen after a word or a bracket, as in `3-5`, is no sign.
NUMBER = re.compile(rf"((?<![\w)\]])[-\u2212])?[$€£]?({UNSIGNED}(?:/{UNSIGNED})*)")


def is_correct(answer: str, expected: str, match: TaskMatch) -> bool:
    """Whether `answer` is the expected one.

    `exact`: the same text, spaces at the ends and case aside. `prefix`: it begins with the expected text, and no word
    or number goes on there. `last-number`: its last number is the last number of the expected text, by value. `choice`:
    the answer, here one of the row's own choices, is the expected one.
    """
    if match == "exact":
        return _normalise(answer) == _normalise(expected)
    if match == "choice":
        return answer.strip() == expected.strip()
    if match == "prefix":
        return re.match(re.escape(_normalise(expected)) + r"(?!\w|['’-]\w|[.,]\d)", _normalise(answer)) is not None
    number = parse_last_number(answer)
    return number is not None and number == parse_last_number(expected)


def parse_last_number(text: str) -> Fraction | None:
    """The last number of `text`, exactly; None without one.

    Understood: a minus, decimal points, thousands separators (comma, apostrophe, no-break space), fractions such as
    `3/4`, a currency sign before it; what follows it, such as `%` or a full stop, is a unit and does not count. Not
    covered: decimal commas, exponents, numbers in words.
    """
    numbers: list[tuple[str, str]] = NUMBER.findall(text)
    if not numbers:
        return None
    minus, digits = numbers[-1]
    # Decimal reads any length of hostile digits, where int and Fraction raise.
    parts = [Fraction(Decimal(part)) for part in re.sub(SEPARATORS, "", digits).split("/")]
    value = parts[0] / parts[1] if len(parts) == 2 and parts[1] else parts[-1]
    return -value if minus else value


def needed_tokens(rows: Sequence[PromptRow], match: TaskMatch, limit: int) -> int:
    """New tokens that an answer may take: no more than can still be right, and at most `limit`."""
    if match == "last-number":
        return limit
    # A token spells at least one byte, and one more shows that the answer ends there.
    longest = max((len(row.response.strip().encode()) for row in rows), default=0)
    return min(limit, longest + 1)


def require_numbers(rows: Sequence[PromptRow]) -> None:
    """Raises ConfigurationError for the first row of a `last-number` task that expects no number."""
    for number, row in enumerate(rows, 1):
        if parse_last_number(row.response) is None:
            raise ConfigurationError(
                f"row {number} of the task expects no number",
                cause="task_match is last-number",
                hint='write "expected": "42", or choose another task_match: exact, prefix or choice',
            )


def _normalise(text: str) -> str:
    return text.strip().casefold()
