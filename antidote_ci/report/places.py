"""Where a card will stand."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CardLocation:
    """A repository of the Hub, or this machine alone."""

    repository: str | None = None
    """ORG/NAME; None where nothing is published."""
    own: bool = False
    """Whether the repository holds these weights and not those of the source."""
    branch: str | None = None
    """Of the source, where the result goes to one."""
    card: str | None = None
    """The card that stands in a repository of its own already: its owner's words stay, in place of the source's."""


LOCAL_CARD = CardLocation()
