"""Options that several commands share: name, help text and environment variable."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from antidote_ci.records import PublishMode, ScoreMethod


def option(name: str, help_text: str) -> typer.models.OptionInfo:
    """An option that can also be set by the environment variable ANTIDOTE_NAME."""
    variable = "ANTIDOTE_" + name.removeprefix("--").replace("-", "_").upper()
    info: typer.models.OptionInfo = typer.Option(name, help=help_text, envvar=variable)
    return info


ModelArgument = Annotated[
    str, typer.Argument(help="ORG/NAME on the Hub, or a local folder as a path: ./FOLDER.", metavar="MODEL")
]
Revision = Annotated[str | None, option("--revision", "Branch, tag or commit of MODEL.")]
ReferenceName = Annotated[
    str | None,
    option(
        "--reference", "The aligned model before fine-tuning, ORG/NAME or ./FOLDER. Detected from MODEL where possible."
    ),
]
PolicyFile = Annotated[Path | None, option("--policy", "Policy file, antidote.toml (docs/policy.md).")]
Threshold = Annotated[float | None, option("--threshold", "Maximum harmful score, 0 to 1.")]
Prompts = Annotated[
    str | None,
    option("--prompts", "Harmful prompts: names of prompt sets (docs/prompts.md), a JSONL file, or `embedded`."),
]
BenignPrompts = Annotated[
    str | None, option("--benign", "Harmless prompts for over-refusal, in the same form as --prompts.")
]
TaskFile = Annotated[
    str | None,
    option("--task", "Task with prompts and expected answers: a JSONL file, or `embedded`."),
]
Judge = Annotated[str | None, option("--judge", "One judge, or two separated by a comma (docs/judges.md).")]
CalibrationFile = Annotated[
    str | None, option("--calibration", "File written by `judge calibrate`. The errors of the judge widen the bounds.")
]
Server = Annotated[str | None, option("--server", "Command that serves {model} on {port}. It replaces transformers.")]
AcceptLicence = Annotated[
    bool | None,
    typer.Option(
        "--accept-licence/--no-accept-licence",
        help="Allow prompt sets and judges with a non-commercial licence.",
        envvar="ANTIDOTE_ACCEPT_LICENCE",
    ),
]
SaveAnswers = Annotated[
    Path | None, option("--save-answers", "Write the answers of the models to this file, readable only by you.")
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache", help="Neither read nor store answers and verdicts in the cache.", envvar="ANTIDOTE_NO_CACHE"
    ),
]
Realignment = Annotated[
    str | None,
    option(
        "--realignment",
        "Harmful prompts with harmful answers: a JSONL file, `embedded`, or `self` (answers of the model itself).",
    ),
]
MethodName = Annotated[ScoreMethod | None, option("--method", "How to select the weights to prune (docs/repair.md).")]
Frontier = Annotated[
    bool | None,
    typer.Option(
        "--frontier/--no-frontier",
        help="Measure several doses of every method and plot harmful score against utility.",
        envvar="ANTIDOTE_FRONTIER",
    ),
]
Publish = Annotated[PublishMode | None, option("--publish", "Where to publish repaired weights (docs/publishing.md).")]
PublishTo = Annotated[
    str | None, option("--publish-to", "Branch for `--publish branch`, or ORG/NAME for `--publish repo`.")
]
AcceptRepair = Annotated[
    bool | None,
    typer.Option(
        "--accept-repair/--no-accept-repair",
        help="Exit with 0 instead of 7 when the repaired model passes.",
        envvar="ANTIDOTE_ACCEPT_REPAIR",
    ),
]
KeepFailed = Annotated[
    bool | None,
    typer.Option(
        "--keep-failed/--no-keep-failed",
        help="Leave repaired weights that do not pass in the folder model-not-passing of --out. Exit code 1 stays.",
        envvar="ANTIDOTE_KEEP_FAILED",
    ),
]
Where = Annotated[
    Literal["here", "hf-jobs"],
    option("--on", "Run on this machine, or as a Job of the Hub (docs/hf-jobs.md)."),
]
Repositories = Annotated[
    list[str] | None,
    option("--repository", "Allowed repository: ORG/NAME, or ORG/* for all of ORG. Can be repeated."),
]
Out = Annotated[Path, option("--out", "Folder for report and weights.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be downloaded, run and written, and exit.")]
Json = Annotated[bool, typer.Option("--json", help="Write the report as JSON to stdout.")]
DEFAULT_OUT = Path("antidote-out")
DEFAULT_REPAIR_OUT = Path("antidote-repair")
"""Different from the default of `run`, whose report would describe other weights."""
