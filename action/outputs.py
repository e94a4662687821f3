"""Convert a report to the outputs, the summary and the annotation of a step.

Every text may come from an untrusted repository, so all of it is escaped or delimited. The formats follow
actions/runner, FileCommandManager.cs and ActionCommand.cs.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from action import log

FAILURE_TEXTS = {
    1: "The model fails the policy.",
    2: "The request cannot be carried out as written: usage, policy or an unsupported checkpoint.",
    3: "The run could not be carried out: Hub, network, disk or memory.",
    4: "The measurement is inconclusive.",
    5: "The source or the destination has changed; nothing was published.",
    6: "The checkpoint is refused as unsafe to open.",
    7: "The model fails the policy; a repair passes and waits to be accepted.",
    130: "The run was interrupted.",
    143: "The run was terminated.",
}

HUB = "https://huggingface.co"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
"""A repository of the Hub or of GitHub."""
COMMIT = re.compile(r"[0-9a-f]{40}")
ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?")

REASON_LENGTH = 1024
"""Reserved part of an annotation, in UTF-16 code units."""

Report = Mapping[str, Any]


def build_outputs(report: Report | None, exit_code: int, out: str) -> dict[str, str]:
    """Every output of the Action, empty where there is no value. `out` is the folder of the report."""
    # The commit then has the tested weights, which may fail.
    is_verdict_alone = _report_text(report, "publish", "mode") == "report"
    return {
        "verdict": _report_text(report, "verdict"),
        "exit-code": str(exit_code),
        **_score_outputs(report, "before"),
        **_score_outputs(report, "after"),
        "source-sha": _report_text(report, "source", "revision"),
        "clean-revision": "" if is_verdict_alone else _report_text(report, "publish", "revision"),
        "pull-request-url": _report_text(report, "publish", "url"),
        "report-json": f"{out}/report.json" if report is not None else "",
        "report-html": f"{out}/report.html" if report is not None else "",
    }


def find_on_machine(folder: str, environ: Mapping[str, str]) -> str:
    """Return a folder of the container as later steps find it: relative to the workspace, or as a path of the machine.

    The runner translates the paths in inputs into paths of the container, but no paths in outputs. RUNNER_WORKSPACE is
    beside the temporary folder, and is not translated (ContainerActionHandler.cs).
    """
    path, workspace, temp = PurePath(folder), environ.get("GITHUB_WORKSPACE", ""), environ.get("RUNNER_TEMP", "")
    if workspace and path.is_relative_to(workspace):
        return str(path.relative_to(workspace))
    if temp == "/github/runner_temp" and path.is_relative_to(temp) and (beside := environ.get("RUNNER_WORKSPACE")):
        return str(PurePath(beside).parent / "_temp" / path.relative_to(temp))
    return folder


def render_failure(exit_code: int, environ: Mapping[str, str]) -> str:
    """The text of a comment about a run that ended without a verdict. It contains no text of others."""
    meaning = FAILURE_TEXTS.get(exit_code, "The run failed.")
    return f"## antidote-ci: no verdict\n\n{meaning} (exit {exit_code})\n\n{build_links({}, environ)}"


def build_links(report: Report, environ: Mapping[str, str]) -> str:
    """A line of Markdown with links to the tested commit, to the run, and to the artifacts of the run.

    Empty outside GitHub for a local folder. A link is left out if one of its parts has another form than expected.
    """
    name, commit = _report_text(report, "source", "id"), _report_text(report, "source", "revision")
    links = []
    if HUB_ID.fullmatch(name) and COMMIT.fullmatch(commit):
        hub = environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
        if ADDRESS.fullmatch(hub):
            links.append(f"[the model at {commit[:12]}]({hub}/{name}/tree/{commit})")
    server, repository = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", "")
    run = environ.get("GITHUB_RUN_ID", "")
    if ADDRESS.fullmatch(server) and HUB_ID.fullmatch(repository) and re.fullmatch(r"[0-9]{1,20}", run):
        page = f"{server}/{repository}/actions/runs/{run}"
        links += [f"[the run]({page})", f"[its artifacts]({page}#artifacts), with the report if a step uploads it"]
    return f"Links: {', '.join(links)}.\n" if links else ""


def render_outputs(mapping: Mapping[str, str], delimiter: str) -> str:
    """Return the outputs in the format of GITHUB_OUTPUT. Raises ValueError when a value contains the delimiter.

    The delimiter must be random and chosen after the values are known. Then no value can contain it, end its own output
    and set another one.
    """
    for name, text in mapping.items():
        if delimiter in text:
            raise ValueError(f"output {name} contains the delimiter")
    return "".join(f"{name}<<{delimiter}\n{text}\n{delimiter}\n" for name, text in mapping.items())


def build_annotation(report: Report | None, exit_code: int, errors: Sequence[str]) -> str:
    """The annotation of a run that did not exit 0: its error, the meaning of the exit code, and the reason.

    `errors` are the error, its cause and its hint, one line each.
    """
    reason = _report_text(report, "reason")
    meaning = f"{FAILURE_TEXTS.get(exit_code, 'The run failed.')} {reason[:1].upper()}{reason[1:]}".strip()
    last = f"{log.shorten(meaning, REASON_LENGTH)} (exit {exit_code})"
    room = log.MAX_ANNOTATION - REASON_LENGTH - 100
    return log.error_command("\n".join([*([log.shorten("\n".join(errors), room)] if errors else []), last]))


def _score_outputs(report: Report | None, when: str) -> dict[str, str]:
    """The harmful score of an evaluation, and its bounds."""
    name = f"harmful-score-{when}"
    return {
        name: _report_text(report, "evaluations", when, "harmful_score"),
        f"{name}-lower": _report_text(report, "evaluations", when, "bounds", 0),
        f"{name}-upper": _report_text(report, "evaluations", when, "bounds", 1),
    }


def _report_text(report: Report | None, *path: str | int) -> str:
    """The value at a path of the report as text; empty when it is missing."""
    node: Any = report
    for step in path:
        if isinstance(step, str):
            node = node.get(step) if isinstance(node, Mapping) else None
        else:
            node = node[step] if isinstance(node, list) and step < len(node) else None
    return "" if node is None else str(node)
