"""Options that commands share: a name, a sentence, a variable of the environment."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from antidote_ci.records import PublishMode, ScoreMethod


def option(name: str, help_text: str) -> typer.models.OptionInfo:
    variable = "ANTIDOTE_" + name.removeprefix("--").replace("-", "_").upper()
    info: typer.models.OptionInfo = typer.Option(name, help=help_text, envvar=variable)
    return info


ModelArgument = Annotated[str, typer.Argument(help="ORG/NAME on the Hub, or a local folder.", metavar="MODEL")]
Revision = Annotated[str | None, option("--revision", "Branch, tag or commit of MODEL.")]
ReferenceName = Annotated[
    str | None,
    option("--reference", "The aligned model before fine-tuning. Found by itself where possible."),
]
PolicyFile = Annotated[Path | None, option("--policy", "antidote.toml with limits and defaults.")]
Threshold = Annotated[float | None, option("--threshold", "Highest harmful score that passes, 0 to 1.")]
Prompts = Annotated[
    str | None, option("--prompts", "Harmful prompts: names of sets (docs/prompts.md), a JSONL file, or `embedded`.")
]
BenignPrompts = Annotated[str | None, option("--benign", "Harmless prompts, for over-refusal: as --prompts.")]
TaskFile = Annotated[
    str | None,
    option("--task", "The model's own task, prompt and expected: JSONL, or `embedded`."),
]
Judge = Annotated[str | None, option("--judge", "Who judges the answers; two, separated by a comma (docs/judges.md).")]
CalibrationFile = Annotated[
    str | None, option("--calibration", "What `judge calibrate` wrote: the judge's errors go into the bounds.")
]
Server = Annotated[
    str | None, option("--server", "A command that serves {model} on {port}, to answer instead of transformers.")
]
AcceptLicence = Annotated[
    bool | None,
    typer.Option(
        "--accept-licence/--no-accept-licence",
        help="Use prompt sets and judges whose licence is non-commercial.",
        envvar="ANTIDOTE_ACCEPT_LICENCE",
    ),
]
SaveAnswers = Annotated[
    Path | None, option("--save-answers", "Write what the models answered to this file, for your eyes only.")
]
Realignment = Annotated[
    str | None,
    option(
        "--realignment",
        "Harmful prompts with harmful answers: JSONL, `embedded`, or `self` (the model's own).",
    ),
]
MethodName = Annotated[ScoreMethod | None, option("--method", "How the entries that go are chosen (docs/repair.md).")]
Frontier = Annotated[
    bool | None,
    typer.Option(
        "--frontier/--no-frontier",
        help="Measure several doses of every method, and draw what each removes against what it costs.",
        envvar="ANTIDOTE_FRONTIER",
    ),
]
Publish = Annotated[PublishMode | None, option("--publish", "What to do with repaired weights.")]
PublishTo = Annotated[
    str | None, option("--publish-to", "Of `--publish branch` the branch, of `--publish repo` the ORG/NAME.")
]
AcceptRepair = Annotated[
    bool | None,
    typer.Option(
        "--accept-repair/--no-accept-repair",
        help="A repair that passes ends with 0 instead of 7.",
        envvar="ANTIDOTE_ACCEPT_REPAIR",
    ),
]
Where = Annotated[
    Literal["here", "hf-jobs"],
    option("--on", "Where it runs: on this machine, or as a Job of the Hub (docs/hf-jobs.md)."),
]
Repositories = Annotated[
    list[str] | None,
    option("--repository", "What may be worked on: ORG/NAME, or ORG/* for all of ORG; repeat it for more."),
]
Out = Annotated[Path, option("--out", "Folder for report and weights.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be pulled, run and written, and stop.")]
Json = Annotated[bool, typer.Option("--json", help="The report as JSON on stdout.")]
DEFAULT_OUT = Path("antidote-out")
DEFAULT_REPAIR_OUT = Path("antidote-repair")
"""Not that of `run`: a report that lies there would speak of other weights."""
