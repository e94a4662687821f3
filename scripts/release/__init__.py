"""Functions of the release workflow that check versions and rewrite texts. See docs/releasing.md."""

import re
from collections.abc import Iterable

SOURCE_TAG = "release-"
"""Prefix of the maintainer's tag `release-X.Y.Z`. The workflow creates the users' tag `vX.Y.Z` from it."""

ACTIONS = {
    "action.yml": ("image: Dockerfile", "image: docker://{image}"),
    "action/gpu/action.yml": ("ghcr.io/OWNER/antidote-ci:cuda", "{image}"),
}
"""Action file -> the name of its image in the repository, and in a release."""

ACTION_FILE = "antidote_ci/__init__.py"
_UNRELEASED = f'ACTION = "OWNER/antidote-ci@{"0" * 40}"'

_DOCUMENTATION = "github.com/OWNER/antidote-ci/blob/main/docs"

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ACTION = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", re.ASCII)


def parse_tag(tag: str) -> str:
    """Return X.Y.Z of `release-X.Y.Z`. Raises ValueError for any other tag."""
    version = tag.removeprefix(SOURCE_TAG)
    if version == tag or not _VERSION.fullmatch(version):
        raise ValueError(f"{tag} is not a tag of the form {SOURCE_TAG}X.Y.Z")
    return version


def check_version(tag: str, package: str, changelog: str) -> str:
    """Return the version. Raises ValueError if tag, package and changelog do not name the same one."""
    version = parse_tag(tag)
    if package != version:
        raise ValueError(f"the tag is {tag}, but antidote_ci.__version__ is {package}")
    read_notes(changelog, version)
    if _section(changelog, "Unreleased"):
        raise ValueError("the section Unreleased of CHANGELOG.md is not empty")
    return version


def read_notes(changelog: str, version: str) -> str:
    """Return the section of a version. Raises ValueError if it is missing, empty or without a date."""
    text = _section(changelog, rf"{re.escape(version)} - \d{{4}}-\d{{2}}-\d{{2}}")
    if not text:
        raise ValueError(f"CHANGELOG.md has no section `## {version} - YYYY-MM-DD`")
    return text


def floating_tag(version: str, tags: Iterable[str]) -> str | None:
    """Return the tag of the major version, or None if a newer release of that major version exists."""
    number = _number(version)
    others = [_number(tag.removeprefix("v")) for tag in tags if _VERSION.fullmatch(tag.removeprefix("v"))]
    newer = any(other[0] == number[0] and other > number for other in others)
    return None if newer else f"v{number[0]}"


def image_name(repository: str) -> str:
    """Return the name of the image in GitHub's registry, which must be in lower case."""
    return f"ghcr.io/{repository.lower()}"


def pin_image(path: str, text: str, name: str, digest: str) -> str:
    """Pin the image of an action to a digest. Raises ValueError unless the placeholder occurs exactly once."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is not a sha256 digest")
    placeholder, released = ACTIONS[path]
    return _replace_once(text, placeholder, released.format(image=f"{name}@{digest}"), path)


def stamp_action(text: str, action: str) -> str:
    """Set the Action that `antidote-ci init` writes. Raises ValueError unless it is OWNER/REPOSITORY@COMMIT."""
    _split_action(action)
    return _replace_once(text, _UNRELEASED, f'ACTION = "{action}"', ACTION_FILE)


def link_readme(text: str, action: str) -> str:
    """Let the relative links of README.md, which PyPI shows, lead to the repository at its commit.

    Raises ValueError unless `action` is OWNER/REPOSITORY@COMMIT.
    """
    repository, commit = _split_action(action)
    address = f"https://github.com/{repository}"
    text = re.sub(r"(!\[[^\]]*\]\()(?!\w+:)", rf"\1{address}/raw/{commit}/", text)
    return re.sub(r"(\]\()(?!\w+:|#)", rf"\1{address}/blob/{commit}/", text)


def stamp_documentation(text: str, repository: str, version: str) -> str:
    """Set the address of the documentation in pyproject.toml, as `antidote_ci.DOCUMENTATION` has it."""
    return _replace_once(text, _DOCUMENTATION, f"github.com/{repository}/blob/v{version}/docs", "pyproject.toml")


def _split_action(action: str) -> tuple[str, str]:
    if not _ACTION.fullmatch(action):
        raise ValueError(f"{action!r} is not of the form OWNER/REPOSITORY@COMMIT")
    repository, _, commit = action.partition("@")
    return repository, commit


def _section(changelog: str, heading: str) -> str:
    match = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE)
    return match.group(1).strip() if match else ""


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _replace_once(text: str, old: str, new: str, name: str) -> str:
    if text.count(old) != 1:
        raise ValueError(f"{name} contains {old!r} {text.count(old)} times instead of once")
    return text.replace(old, new)
