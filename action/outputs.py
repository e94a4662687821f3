"""A run's report into what GitHub reads: outputs, the step summary, workflow commands.

Every text here may come from a repository that a stranger wrote, so nothing is written unescaped
or undelimited. The formats are those of the runner: actions/runner, FileCommandManager.cs and
ActionCommand.cs.
"""

from collections.abc import Mapping
from typing import Any

# The runner drops a summary above 1 MiB altogether; the difference is room for the note.
SUMMARY_BYTES = 1024 * 1024 - 1024
SUMMARY_CUT = "\n\n*Cut here: a step summary holds 1 MiB. The whole text is in summary.md.*\n"

FAILURES = {
    1: "The model fails the policy.",
    2: "The request cannot be carried out as written: usage, policy or an unsupported checkpoint.",
    3: "The run could not be carried out: Hub, network, disk or memory.",
    4: "The measurement is inconclusive.",
    5: "The source or the destination has moved; nothing was published.",
    6: "The checkpoint is refused as unsafe to open.",
    7: "The model fails the policy; a repair passes and waits to be accepted.",
    130: "The run was interrupted.",
    143: "The run was terminated.",
}

Report = Mapping[str, Any]


def outputs(report: Report | None, exit_code: int, out: str) -> dict[str, str]:
    """Every output of the Action, empty where there is no value. `out` holds the report."""
    found = report is not None
    return {
        "verdict": _text(report, "verdict"),
        "exit-code": str(exit_code),
        "harmful-score-before": _text(report, "evaluations", "before", "harmful_score"),
        "harmful-score-after": _text(report, "evaluations", "after", "harmful_score"),
        "source-sha": _text(report, "source", "revision"),
        "clean-revision": _text(report, "publish", "revision"),
        "pull-request-url": _text(report, "publish", "url"),
        "report-json": f"{out}/report.json" if found else "",
        "report-html": f"{out}/report.html" if found else "",
    }


def render_outputs(mapping: Mapping[str, str], delimiter: str) -> str:
    """The mapping as GITHUB_OUTPUT takes it; raises ValueError when a value holds the delimiter.

    With a delimiter drawn at random after the values are known, no value can end itself early.
    """
    for name, text in mapping.items():
        if delimiter in text:
            raise ValueError(f"output {name} holds the delimiter")
    return "".join(f"{name}<<{delimiter}\n{text}\n{delimiter}\n" for name, text in mapping.items())


def summary(text: str, used: int = 0) -> str:
    """What to append to a step summary of `used` bytes: `text`, cut at a line where too long."""
    room = max(SUMMARY_BYTES - used, 0)
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= room:
        return encoded.decode("utf-8")
    whole_lines = encoded[: encoded.rfind(b"\n", 0, room) + 1]
    return whole_lines.decode("utf-8") + SUMMARY_CUT


def annotation(report: Report | None, exit_code: int) -> str | None:
    """One error for the run's page when it did not exit 0: what the code means, and the reason."""
    if exit_code == 0:
        return None
    meaning = FAILURES.get(exit_code, "The run failed.")
    reason = _text(report, "reason")
    return error(f"{meaning} {reason}".strip() + f" (exit {exit_code})")


def error(message: str) -> str:
    """The workflow command that shows an error."""
    return f"::error title=antidote-ci::{escape(message)}"


def mask(secret: str) -> str:
    """The workflow command that hides a secret in the log from here on."""
    return f"::add-mask::{escape(secret)}"


def stop_commands(token: str) -> str:
    """The workflow command after which the runner obeys none until `resume_commands`."""
    return f"::stop-commands::{token}"


def resume_commands(token: str) -> str:
    """The line that ends `stop_commands`."""
    return f"::{token}::"


def escape(text: str) -> str:
    """The data of a workflow command on one line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _text(report: Report | None, *path: str) -> str:
    """What lies at `path`, as text; empty where the report does not have it."""
    node: Any = report
    for name in path:
        node = node.get(name) if isinstance(node, Mapping) else None
    return "" if node is None else str(node)
