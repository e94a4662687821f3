"""Records as JSON."""

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Record = TypeVar("Record")
_ADAPTERS: "dict[type[Any], TypeAdapter[Any]]" = {}


def to_json(record: object) -> str:
    """The record as indented JSON."""
    return _type_adapter(type(record)).dump_json(record, indent=2).decode() + "\n"


def from_json(kind: type[Record], text: str | bytes) -> Record:
    """A record of `kind` from JSON; raises pydantic.ValidationError (a ValueError) when it does not fit."""
    record: Record = _type_adapter(kind).validate_json(text)
    return record


def _type_adapter(kind: type[Any]) -> "TypeAdapter[Any]":
    """Made once for each kind: that takes milliseconds."""
    if kind not in _ADAPTERS:
        from pydantic import TypeAdapter

        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
