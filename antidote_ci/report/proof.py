"""How a stranger checks what was published: commands to copy, files to read. Pure.

No other Markdown goes unescaped, so nothing gets into it that is not of the Hub's own form.
"""

import re
from typing import TYPE_CHECKING

from antidote_ci.identifiers import COMMIT, is_hub_id
from antidote_ci.records import PublishResult
from antidote_ci.report.places import CardLocation

if TYPE_CHECKING:
    from markupsafe import Markup

FILES = ("antidote/report.json", "antidote/report.html", "antidote/manifest.json", "SHA256SUMS")
"""What is published beside the weights."""

ShellCommand = tuple["Markup", "Markup"]
"""What a command is for, and the command."""

_TENSORS = "every tensor against its source and its reference; no model is run"
_WHOLE = "that a download is whole, in its folder", "sha256sum -c SHA256SUMS"
_BRANCH = re.compile(r"\w[\w./-]*", re.ASCII)
_HOST = re.compile(r"https?://[\w.-]+(?::\d+)?(?=/)", re.ASCII)


def card_commands(place: CardLocation) -> list[ShellCommand]:
    """For the weights beside the card."""
    if place.repository is None:
        return _to_commands((f"in this folder: {_TENSORS}", "antidote-ci verify ."), _WHOLE)
    verify = _verify_command(place.repository)
    if place.own:
        return _to_commands((_TENSORS, verify), _WHOLE)
    return _to_commands(
        (_TENSORS, verify), ("the same before it is merged", verify + _checkout_command(place, "N")), _WHOLE
    )


def pull_request_commands(place: CardLocation, source: str) -> list[ShellCommand]:
    """For what is to be merged; a pull request has no number yet."""
    if place.own:
        return card_commands(place)
    verify = _verify_command(place.repository or source)
    unmerged = verify + _checkout_command(place, "<number of this pull request>")
    return _to_commands((_TENSORS, unmerged), ("the same once it is merged", verify), _WHOLE)


def commit_commands(published: PublishResult, source: str) -> list[ShellCommand]:
    """For the commit that holds the result."""
    revision = _quote_name(published.revision or "", COMMIT, "COMMIT")
    return _to_commands((_TENSORS, f"{_verify_command(published.repository or source)} --revision {revision}"))


def link_files() -> list["Markup"]:
    """Links to FILES from a card, which lies with them."""
    return [_own_markup(f"[{path}]({path})") for path in FILES]


def link_files_at(published: PublishResult, source: str) -> list["Markup"]:
    """Links to FILES at the commit that holds them; their names, where the Hub's address is not known."""
    repository, revision = published.repository or source, published.revision or ""
    host = _HOST.match(published.url or "")
    if host is None or not is_hub_id(repository) or not COMMIT.fullmatch(revision):
        return [_own_markup(path) for path in FILES]
    return [_own_markup(f"[{path}]({host[0]}/{repository}/resolve/{revision}/{path})") for path in FILES]


def _to_commands(*found: tuple[str, str]) -> list[ShellCommand]:
    return [(_own_markup(purpose), _own_markup(command)) for purpose, command in found]


def _verify_command(repository: str) -> str:
    return f"antidote-ci verify {repository if is_hub_id(repository) else 'ORG/NAME'}"


def _checkout_command(place: CardLocation, number: str) -> str:
    return f" --revision {_quote_name(place.branch, _BRANCH, 'BRANCH') if place.branch else f'refs/pr/{number}'}"


def _quote_name(value: str, form: re.Pattern[str], otherwise: str) -> str:
    return value if form.fullmatch(value) else otherwise


def _own_markup(text: str) -> "Markup":
    from markupsafe import Markup

    return Markup(text)  # noqa: S704
