"""What a release decides and rewrites. Text in, text out: the workflow does the rest (docs/releasing.md)."""

import re
from collections.abc import Iterable

SOURCE_TAG = "release-"
"""A maintainer's tag `release-X.Y.Z` says what to release. The tag `vX.Y.Z`, which users name, is made from it."""

ACTIONS = {
    "action.yml": ("image: Dockerfile", "image: docker://{image}"),
    "action/gpu/action.yml": ("ghcr.io/OWNER/antidote-ci:cuda", "{image}"),
}
"""How each action names its image in the repository, and how once that is released."""

STARTING = "antidote_ci/cli/scaffold.py"
_UNRELEASED = f'ACTION = "OWNER/antidote-ci@{"0" * 40}"'

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ACTION = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", re.ASCII)


def version_of(tag: str) -> str:
    """X.Y.Z of `release-X.Y.Z`. Raises ValueError for any other tag: candidates are not released."""
    version = tag.removeprefix(SOURCE_TAG)
    if version == tag or not _VERSION.fullmatch(version):
        raise ValueError(f"{tag} is no tag of the form {SOURCE_TAG}X.Y.Z")
    return version


def checked(tag: str, package: str, changelog: str) -> str:
    """The version, where tag, package and changelog agree on it. Raises ValueError naming what does not."""
    version = version_of(tag)
    if package != version:
        raise ValueError(f"{tag} was set where antidote_ci.__version__ is {package}")
    notes(changelog, version)
    if _section(changelog, "Unreleased"):
        raise ValueError("CHANGELOG.md keeps something under Unreleased")
    return version


def notes(changelog: str, version: str) -> str:
    """What CHANGELOG.md says of a version. Raises ValueError where that is nothing, or has no date."""
    text = _section(changelog, rf"{re.escape(version)} - \d{{4}}-\d{{2}}-\d{{2}}")
    if not text:
        raise ValueError(f"CHANGELOG.md says nothing under `## {version} - YYYY-MM-DD`")
    return text


def floating(version: str, tags: Iterable[str]) -> str | None:
    """The tag that follows the newest release of a major version; None where a newer one of it stands already."""
    number = _number(version)
    others = [_number(tag.removeprefix("v")) for tag in tags if _VERSION.fullmatch(tag.removeprefix("v"))]
    newer = any(other[0] == number[0] and other > number for other in others)
    return None if newer else f"v{number[0]}"


def image(repository: str) -> str:
    """The image's name in GitHub's registry, which takes no capitals."""
    return f"ghcr.io/{repository.lower()}"


def pinned(path: str, text: str, name: str, digest: str) -> str:
    """The action with its image pinned to a digest. Raises ValueError where its placeholder does not stand once."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is no sha256 digest")
    placeholder, released = ACTIONS[path]
    return _replaced_once(text, placeholder, released.format(image=f"{name}@{digest}"), path)


def stamped(text: str, action: str) -> str:
    """scaffold.py with the Action that `init` writes: OWNER/REPOSITORY@COMMIT. Raises ValueError for another form."""
    if not _ACTION.fullmatch(action):
        raise ValueError(f"{action!r} is no OWNER/REPOSITORY@COMMIT")
    return _replaced_once(text, _UNRELEASED, f'ACTION = "{action}"', STARTING)


def _section(changelog: str, heading: str) -> str:
    found = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE)
    return found.group(1).strip() if found else ""


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _replaced_once(text: str, old: str, new: str, name: str) -> str:
    if text.count(old) != 1:
        raise ValueError(f"{name} holds {old!r} {text.count(old)} times, not once")
    return text.replace(old, new)
