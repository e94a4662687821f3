"""`antidote-ci verify`."""

from typing import Annotated

import typer

from antidote_ci import records
from antidote_ci.cli.ending import handle_exit
from antidote_ci.report.console import write_stdout


def verify(
    result: Annotated[
        str,
        typer.Argument(
            help="The --out folder of a run, a repaired checkpoint's folder, or ORG/NAME on the Hub.",
            metavar="OUT_OR_REPO",
        ),
    ],
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag, commit or refs/pr/N of the repository.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Where the model that was repaired lies, if not where it says.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="Where its reference lies, if not where it says.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What was found as JSON on stdout.")] = False,
) -> None:
    """Check a repaired model against its source, its reference and its method, without running it.

    Exit codes: 0 everything is what the method allows; 1 something differs, and the first such thing is named; 2 there
    is no manifest, or nothing to compare with; 3 infrastructure; 6 source or reference are unsafe to open.
    """
    with handle_exit() as talk:
        from antidote_ci.pipeline import verify as pipeline

        found = pipeline.verify_result(result, revision, source, reference, talk)
        for line in pipeline.describe_verification(found):
            talk.print(line)
        if as_json:
            write_stdout(records.to_json(found))
        raise typer.Exit(1 if found.difference else 0)
