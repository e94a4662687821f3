"""Workflow commands: the lines that the runner obeys. After actions/runner, ActionCommand.cs and its manager."""

ANNOTATION_LENGTH = 4096
"""The runner cuts an annotation after so many UTF-16 units."""


def error_command(message: str) -> str:
    """Shows an error on the run's page."""
    return f"::error title=antidote-ci::{escape_data(message)}"


def mask_commands(secret: str) -> list[str]:
    """Hide a secret in the log from here on: the whole of it, and each of its lines, since a log is made of lines."""
    lines = [line.strip() for line in secret.splitlines()]
    return [f"::add-mask::{escape_data(each)}" for each in dict.fromkeys([secret, *lines]) if each.strip()]


def group_command(name: str) -> str:
    """Begins a part of the log that folds. Groups do not nest."""
    return f"::group::{escape_data(name)}"


def end_group_command() -> str:
    """Ends it."""
    return "::endgroup::"


def stop_commands(token: str) -> str:
    """Makes the runner obey nothing until `resume_commands` with the same token. It refuses a token that it has
    had before."""
    return f"::stop-commands::{token}"


def resume_commands(token: str) -> str:
    """Ends `stop_commands`."""
    return f"::{token}::"


def escape_data(text: str) -> str:
    """The data of a command on one line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def shorten(text: str, length: int) -> str:
    """At most `length` UTF-16 units of it, which is how the runner counts."""
    encoded = text.encode("utf-16-le", "replace")
    if len(encoded) <= 2 * length:
        return text
    return encoded[: 2 * (length - 1)].decode("utf-16-le", "ignore") + "…"
