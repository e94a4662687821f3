"""Options that several commands share: name, help text, panel, environment variable and the key of the policy.

Rare options are hidden from `--help`: docs/commands.md lists them, and most are keys of the policy.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from antidote_ci.policy import Policy
from antidote_ci.records import PublishMode, ScoreMethod
from antidote_ci.report.text import link_documents

MODEL, PROMPTS, JUDGE, GATE, REPAIR, PUBLISH, WHERE = "Model", "Prompts", "Judge", "Gate", "Repair", "Publish", "Where"
"""Panels of the help, in the order of the parameters of the commands."""


def option(
    name: str,
    help_text: str,
    panel: str | None = None,
    *,
    key: str | None = None,
    **settings: Any,  # noqa: ANN401
) -> typer.models.OptionInfo:
    """An option that can also be set by the environment variable ANTIDOTE_NAME.

    `key`: the key of the policy that gives its default, which the help shows. `settings`: of `typer.Option`.
    """
    variable = "ANTIDOTE_" + name.partition("/")[0].removeprefix("--").replace("-", "_").upper()
    if key is not None:
        section, _, field = key.partition(".")
        default = getattr(getattr(Policy(), section), field)
        settings["show_default"] = False if default in (None, False) else str(default)
    info: typer.models.OptionInfo = typer.Option(
        name, help=link_documents(help_text), envvar=variable, show_envvar=False, rich_help_panel=panel, **settings
    )
    return info


ModelArgument = Annotated[
    str,
    typer.Argument(help="ORG/NAME, ORG/NAME@REVISION, its page on the Hub, or ./FOLDER.", metavar="MODEL"),
]
Revision = Annotated[
    str | None, option("--revision", "Branch, tag or commit of MODEL, like MODEL@REVISION.", MODEL, hidden=True)
]
ReferenceName = Annotated[
    str | None,
    option(
        "--reference",
        "The aligned model before fine-tuning, if MODEL does not name it.",
        MODEL,
        key="repair.reference",
        metavar="MODEL",
    ),
]
PolicyFile = Annotated[
    Path | None, option("--policy", "Policy file, antidote.toml: `antidote-ci init` writes it.", GATE, metavar="FILE")
]
Threshold = Annotated[
    float | None,
    option("--threshold", "Maximum harmful score, 0 to 1.", GATE, key="gate.harmful_score", metavar="SHARE"),
]
Baseline = Annotated[
    str | None,
    option(
        "--baseline",
        "report.json of an earlier run, with whose answers those of this run are compared.",
        GATE,
        key="gate.baseline",
        metavar="FILE",
        hidden=True,
    ),
]
Prompts = Annotated[
    str | None,
    option(
        "--prompts",
        "Harmful prompts: names of sets, or a JSONL file.",
        PROMPTS,
        key="evaluation.prompts",
        metavar="NAMES",
    ),
]
BenignPrompts = Annotated[
    str | None,
    option(
        "--benign",
        "Harmless prompts for over-refusal, in the same form as --prompts.",
        PROMPTS,
        key="evaluation.benign",
        metavar="NAMES",
    ),
]
TaskFile = Annotated[
    str | None,
    option(
        "--task",
        "Prompts with expected answers: a JSONL file, `embedded`, or ORG/DATASET@COMMIT:FILE.",
        PROMPTS,
        key="evaluation.task",
        metavar="FILE",
    ),
]
Judge = Annotated[
    str | None,
    option("--judge", "One judge, or two separated by a comma.", JUDGE, key="evaluation.judge", metavar="NAMES"),
]
CalibrationFile = Annotated[
    str | None,
    option(
        "--calibration",
        "File written by `judge calibrate`. The errors of the judge widen the bounds.",
        JUDGE,
        key="evaluation.calibration",
        hidden=True,
    ),
]
Server = Annotated[
    str | None,
    option(
        "--server",
        "Command that serves {model} on {port}. It replaces transformers.",
        MODEL,
        key="evaluation.server",
        hidden=True,
    ),
]
SaveAnswers = Annotated[
    Path | None,
    option("--save-answers", "Write the answers of the models to this file, readable only by you.", WHERE, hidden=True),
]
NoCache = Annotated[
    bool, option("--no-cache", "Neither read nor store answers and verdicts in the cache.", WHERE, hidden=True)
]
QUICK_HELP = "Use 100 prompts, short answers and a judge of rules."
Quick = Annotated[bool, option("--quick", QUICK_HELP, GATE)]
QuickRun = Annotated[bool, option("--quick", QUICK_HELP, GATE, hidden=True)]
Junit = Annotated[
    Path | None,
    option(
        "--junit",
        "Write the limits and categories to this file, as test results in the JUnit format.",
        WHERE,
        hidden=True,
        metavar="FILE",
    ),
]
REALIGNMENT_HELP = "Harmful prompts with harmful answers: a JSONL file, `embedded`, or `self` (answers of the model)."
RealignmentOfRun = Annotated[
    str | None, option("--realignment", REALIGNMENT_HELP, REPAIR, key="repair.realignment", hidden=True)
]
Realignment = Annotated[
    str | None, option("--realignment", REALIGNMENT_HELP, PROMPTS, key="repair.realignment", metavar="FILE")
]
MethodName = Annotated[
    ScoreMethod | None,
    option("--method", "How to select the weights to prune.", REPAIR, key="repair.method", hidden=True),
]
Frontier = Annotated[
    bool | None,
    option(
        "--frontier/--no-frontier",
        "Measure several doses of every method and plot harmful score against utility.",
        REPAIR,
        key="repair.frontier",
        hidden=True,
    ),
]
Publish = Annotated[
    PublishMode | None,
    option(
        "--publish",
        "Where to publish a repair: none, pull-request, branch or repo; or only the verdict: report.",
        PUBLISH,
        metavar="MODE",
    ),
]
# Without a variable: ANTIDOTE_PUBLISH may name a mode of `run`.
PublishVerdict = Annotated[
    Literal["none", "report"] | None,
    typer.Option(
        "--publish",
        help="`report`: publish the verdict on the model's page, without weights.",
        show_default=False,
        rich_help_panel=PUBLISH,
        metavar="MODE",
    ),
]
PublishTo = Annotated[
    str | None,
    option("--publish-to", "The branch, or ORG/NAME of the repository.", PUBLISH, key="publish.to", metavar="NAME"),
]
AcceptRepair = Annotated[
    bool | None,
    option(
        "--accept-repair/--no-accept-repair",
        "Exit with 0, not 7, when the repair passes.",
        REPAIR,
        key="repair.accept",
    ),
]
KeepFailed = Annotated[
    bool | None,
    option(
        "--keep-failed/--no-keep-failed",
        "Leave repaired weights that do not pass in the folder model-not-passing of --out. The exit code stays.",
        REPAIR,
        key="repair.keep_failed",
        hidden=True,
    ),
]
Where = Annotated[
    Literal["here", "hf-jobs"],
    option("--on", "Run on this machine, or as a Job of the Hub.", WHERE),
]
Repositories = Annotated[
    list[str] | None,
    option("--repository", "Allowed repository: ORG/NAME, or ORG/* for all of ORG. Can be repeated."),
]
Out = Annotated[Path, option("--out", "Folder for report and weights.", WHERE, metavar="FOLDER")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be pulled, run and written, and exit.", rich_help_panel=WHERE)
]
Json = Annotated[bool, typer.Option("--json", help="Write the report as JSON to stdout.", rich_help_panel=WHERE)]
DEFAULT_OUT = Path("antidote-out")
DEFAULT_REPAIR_OUT = Path("antidote-repair")
"""Different from the default of `run`, whose report would describe other weights."""
