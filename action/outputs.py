"""A run's report into what GitHub reads: outputs, the step summary, workflow commands.

Every text here may come from a repository that a stranger wrote, so nothing is written unescaped
or undelimited. The formats are those of the runner: actions/runner, FileCommandManager.cs and
ActionCommand.cs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from action import commands

# The runner drops a summary above 1 MiB altogether; the difference is room for the note.
SUMMARY_BYTES = 1024 * 1024 - 1024
SUMMARY_CUT = "\n\n*Cut here: a step summary holds 1 MiB. The whole text is in summary.md.*\n"

FAILURE_TEXTS = {
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

REASON_LENGTH = 1024
"""Of an annotation's 4096."""

Report = Mapping[str, Any]


def build_outputs(report: Report | None, exit_code: int, out: str) -> dict[str, str]:
    """Every output of the Action, empty where there is no value. `out` holds the report."""
    found = report is not None
    return {
        "verdict": _report_text(report, "verdict"),
        "exit-code": str(exit_code),
        **_score_outputs(report, "before"),
        **_score_outputs(report, "after"),
        "source-sha": _report_text(report, "source", "revision"),
        "clean-revision": _report_text(report, "publish", "revision"),
        "pull-request-url": _report_text(report, "publish", "url"),
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


def cut_summary(text: str, used: int = 0) -> str:
    """What to append to a step summary of `used` bytes: `text`, cut at a line where too long."""
    room = max(SUMMARY_BYTES - used, 0)
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= room:
        return encoded.decode("utf-8")
    whole_lines = encoded[: encoded.rfind(b"\n", 0, room) + 1]
    return whole_lines.decode("utf-8") + SUMMARY_CUT


def build_annotation(report: Report | None, exit_code: int, told: Sequence[str] = ()) -> str:
    """The one error of a run that did not exit 0: what was told of it, then what the code means, and the reason.

    `told` is the run's own error with its cause and hint, each on a line of its own.
    """
    reason = _report_text(report, "reason")
    meaning = f"{FAILURE_TEXTS.get(exit_code, 'The run failed.')} {reason[:1].upper()}{reason[1:]}".strip()
    last = f"{commands.shorten(meaning, REASON_LENGTH)} (exit {exit_code})"
    room = commands.ANNOTATION_LENGTH - REASON_LENGTH - 100
    return commands.error_command("\n".join([*([commands.shorten("\n".join(told), room)] if told else []), last]))


def _score_outputs(report: Report | None, when: str) -> dict[str, str]:
    """The harmful score of one evaluation with its bounds."""
    name = f"harmful-score-{when}"
    return {
        name: _report_text(report, "evaluations", when, "harmful_score"),
        f"{name}-lower": _report_text(report, "evaluations", when, "bounds", 0),
        f"{name}-upper": _report_text(report, "evaluations", when, "bounds", 1),
    }


def _report_text(report: Report | None, *path: str | int) -> str:
    """What lies at `path`, as text; empty where the report does not have it."""
    node: Any = report
    for step in path:
        if isinstance(step, str):
            node = node.get(step) if isinstance(node, Mapping) else None
        else:
            node = node[step] if isinstance(node, list) and step < len(node) else None
    return "" if node is None else str(node)
