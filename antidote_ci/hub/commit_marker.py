"""How a commit of ours is known again: a comment at the end of its description. Pure."""

import re
from dataclasses import asdict, dataclass

_MARKER = re.compile(
    r"<!-- antidote-ci run=(?P<run>[0-9a-f]{32}) result=(?P<result>[0-9a-f]{64}) "
    r"source=(?P<source>[0-9a-f]{40}) policy=(?P<policy>[0-9a-f]{64}) report=(?P<report>[0-9a-f]{64}) -->\s*\Z",
    re.ASCII,
)


@dataclass(frozen=True)
class CommitMarker:
    """Whose work a commit is, in hex."""

    run: str
    """The run that made it: 32 digits."""
    result: str
    """Equal for two runs that came to the same weights by the same policy: 64 digits."""
    source: str
    """The commit that was tested: 40 digits."""
    policy: str
    """sha256 of the policy: 64 digits."""
    report: str
    """sha256 of report.json as it is published: 64 digits."""


def add_marker(text: str, marker: CommitMarker) -> str:
    """`text` with the mark on a last line of its own, which a rendered page does not show."""
    said = " ".join(f"{name}={value}" for name, value in asdict(marker).items())
    return f"{text.rstrip()}\n\n<!-- antidote-ci {said} -->\n"


def parse_marker(text: str) -> CommitMarker | None:
    """The mark at the end of a description; None for somebody else's."""
    found = _MARKER.search(text)
    return CommitMarker(**found.groupdict()) if found else None
