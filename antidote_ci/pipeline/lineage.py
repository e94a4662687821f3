"""Whether what a model says it came from is what it came from: names and dates, no weights.

A name on the Hub is not tied to whoever had it: who deletes or moves a repository leaves its name to others.
https://unit42.paloaltonetworks.com/model-namespace-reuse/
"""

from pathlib import Path

from antidote_ci.checkpoint import card as cards
from antidote_ci.errors import UnsafeCheckpoint
from antidote_ci.hub.pull import is_local
from antidote_ci.hub.remote import NAME, RepositoryInfo

HINT = "if you know what the model was fine-tuned from, name it: --reference ORG/NAME"


def require_repository_name(model: str, base: str, found_by: str) -> None:
    """Raise UnsafeCheckpoint unless what a repository of the Hub names as its base can be another one."""
    if not NAME.fullmatch(base) or is_local(base):
        raise UnsafeCheckpoint(
            f"the {found_by} of {model} names as its base no repository but {base!r:.200}",
            cause="it was saved with a path of the machine that trained it, or is meant to make this one open others",
            hint=HINT,
        )


def require_card_agrees(model: str, folder: Path, base: str) -> None:
    """Raise UnsafeCheckpoint when an adapter in `folder` says that it has another base than its card says."""
    shown = cards.read_base_models(folder)
    if shown and base.casefold() not in (each.casefold() for each in shown):
        raise UnsafeCheckpoint(
            f"{model} is shown as made from {', '.join(map(_quote_name, shown))}, and its adapter_config.json names "
            f"{_quote_name(base)}",
            cause="people would trust the one base while the adapter runs on the other",
            hint=HINT,
        )


def require_same_base(model: str, changed: RepositoryInfo | None, base: str, found: RepositoryInfo | None) -> None:
    """Raise UnsafeCheckpoint when `base` is not the repository any more that `model` was made from.

    Either it answers under another owner's name, or it is younger than the model. Nothing is known of what was in the
    cache.
    """
    if found is None:
        return
    if "/" in base and _owner_of(found.name) != _owner_of(base):
        raise UnsafeCheckpoint(
            f"{base}, the base of {model}, is now {found.name}: another owner's",
            cause="it was moved, or its old name leads to weights that its new owner may change",
            hint=HINT,
        )
    if changed is not None and found.created and changed.modified and found.created > changed.modified:
        raise UnsafeCheckpoint(
            f"{base}, the base of {model}, was created on {found.created:%Y-%m-%d}, and the model last changed on "
            f"{changed.modified:%Y-%m-%d}",
            cause="the model cannot have been made from it: somebody may have taken a name that became free",
            hint=HINT,
        )


def _quote_name(name: str) -> str:
    """A stranger's text is quoted, unless it is a plain name."""
    return name if NAME.fullmatch(name) else f"{name!r:.200}"


def _owner_of(name: str) -> str:
    return name.partition("/")[0].casefold()
