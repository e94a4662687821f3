"""The command `compare`: reports of earlier runs, side by side."""

from pathlib import Path
from typing import Annotated

import typer

from antidote_ci import records
from antidote_ci.cli.ending import handle_exit
from antidote_ci.report.console import write_stdout


def compare(
    reports: Annotated[
        list[str],
        typer.Argument(
            help="report.json files, folders with some, or ORG/NAME of models that a report was published for.",
            metavar="REPORT",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="File for the page.", metavar="FILE")] = Path("comparison.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Write the comparison as JSON to stdout.")] = False,
) -> None:
    """Compare two reports prompt by prompt, or show the history of more, such as those of a folder.

    Exit codes: 0 whatever the comparison shows; 2 an input is no report; 3 infrastructure.

    More: docs/compare.md
    """
    with handle_exit() as console:
        from antidote_ci.pipeline import comparison as pipeline
        from antidote_ci.report import comparison as pages
        from antidote_ci.report import history

        pipeline.require_page(out)
        compared = pipeline.compare_loaded(pipeline.load_reports(reports, console), out)
        if isinstance(compared, records.Comparison):
            shown, page = pages.show_comparison(compared), pages.render_comparison_page(compared)
        else:
            shown, page = history.show_history(compared.entries), history.render_history_page(compared.entries)
        console.show(shown)
        pipeline.write_page(out, page)
        console.print(f"page: {out}")
        if as_json:
            write_stdout(records.to_json(compared))
