"""How a stranger checks what was published: commands to copy, files to read. Pure.

No other Markdown goes unescaped, so nothing gets into it that is not of the Hub's own form.
"""

import re
from typing import TYPE_CHECKING

from antidote_ci.identifiers import COMMIT, is_hub_id
from antidote_ci.records import Published
from antidote_ci.report.places import Place

if TYPE_CHECKING:
    from markupsafe import Markup

FILES = ("antidote/report.json", "antidote/report.html", "antidote/manifest.json", "SHA256SUMS")
"""What is published beside the weights."""

Command = tuple["Markup", "Markup"]
"""What a command is for, and the command."""

_TENSORS = "every tensor against its source and its reference; no model is run"
_WHOLE = "that a download is whole, in its folder", "sha256sum -c SHA256SUMS"
_BRANCH = re.compile(r"\w[\w./-]*", re.ASCII)
_HOST = re.compile(r"https?://[\w.-]+(?::\d+)?(?=/)", re.ASCII)


def of_card(place: Place) -> list[Command]:
    """For the weights beside the card."""
    if place.repository is None:
        return _commands((f"in this folder: {_TENSORS}", "antidote-ci verify ."), _WHOLE)
    verify = _verify(place.repository)
    if place.own:
        return _commands((_TENSORS, verify), _WHOLE)
    return _commands((_TENSORS, verify), ("the same before it is merged", verify + _unmerged(place, "N")), _WHOLE)


def of_proposal(place: Place, source: str) -> list[Command]:
    """For what is to be merged; a pull request has no number yet."""
    if place.own:
        return of_card(place)
    verify = _verify(place.repository or source)
    unmerged = verify + _unmerged(place, "<number of this pull request>")
    return _commands((_TENSORS, unmerged), ("the same once it is merged", verify), _WHOLE)


def at_commit(published: Published, source: str) -> list[Command]:
    """For the commit that holds the result."""
    revision = _named(published.revision or "", COMMIT, "COMMIT")
    return _commands((_TENSORS, f"{_verify(published.repository or source)} --revision {revision}"))


def beside() -> list["Markup"]:
    """Links to FILES from a card, which lies with them."""
    return [_own(f"[{path}]({path})") for path in FILES]


def files_at(published: Published, source: str) -> list["Markup"]:
    """Links to FILES at the commit that holds them; their names, where the Hub's address is not known."""
    repository, revision = published.repository or source, published.revision or ""
    host = _HOST.match(published.url or "")
    if host is None or not is_hub_id(repository) or not COMMIT.fullmatch(revision):
        return [_own(path) for path in FILES]
    return [_own(f"[{path}]({host[0]}/{repository}/resolve/{revision}/{path})") for path in FILES]


def _commands(*found: tuple[str, str]) -> list[Command]:
    return [(_own(purpose), _own(command)) for purpose, command in found]


def _verify(repository: str) -> str:
    return f"antidote-ci verify {repository if is_hub_id(repository) else 'ORG/NAME'}"


def _unmerged(place: Place, number: str) -> str:
    return f" --revision {_named(place.branch, _BRANCH, 'BRANCH') if place.branch else f'refs/pr/{number}'}"


def _named(value: str, form: re.Pattern[str], otherwise: str) -> str:
    return value if form.fullmatch(value) else otherwise


def _own(text: str) -> "Markup":
    from markupsafe import Markup

    return Markup(text)  # noqa: S704
