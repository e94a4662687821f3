"""Commands: arguments -> one call -> exit code. Imports nothing heavy, so that `--help` is instant."""

import dataclasses
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from antidote_ci import __version__, records
from antidote_ci.config import Policy, RunConfig, override, read_policy
from antidote_ci.console import Talk, data, heard
from antidote_ci.errors import AntidoteError, InfrastructureError, Terminated

if TYPE_CHECKING:
    from antidote_ci.forecast import Forecast

app = typer.Typer(
    help="Measure how harmful a fine-tuned model is, repair its weights, and prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
judge_app = typer.Typer(help="What a judge is worth.", no_args_is_help=True)
app.add_typer(judge_app, name="judge")


class ScoreName(StrEnum):
    """How a run chooses entries."""

    antidote = "antidote"
    taylor = "taylor"


class TargetKind(StrEnum):
    """What a run scores."""

    auto = "auto"
    dense = "dense"


class Remedy(StrEnum):
    """What `repair` can do."""

    antidote = "antidote"
    taylor = "taylor"
    scale = "scale"
    random = "random"


class PublishMode(StrEnum):
    """Where a repaired model goes."""

    none = "none"
    pull_request = "pull-request"
    branch = "branch"
    repo = "repo"


def _option(name: str, help_text: str) -> typer.models.OptionInfo:
    variable = "ANTIDOTE_" + name.removeprefix("--").replace("-", "_").upper()
    info: typer.models.OptionInfo = typer.Option(name, help=help_text, envvar=variable)
    return info


ModelArgument = Annotated[str, typer.Argument(help="ORG/NAME on the Hub, or a local folder.", metavar="MODEL")]
Revision = Annotated[str | None, _option("--revision", "Branch, tag or commit of MODEL.")]
ReferenceName = Annotated[
    str | None,
    _option("--reference", "The aligned model before fine-tuning. Found by itself where possible."),
]
PolicyFile = Annotated[Path | None, _option("--policy", "antidote.toml with limits and defaults.")]
Threshold = Annotated[float | None, _option("--threshold", "Highest harmful score that passes, 0 to 1.")]
Prompts = Annotated[
    str | None, _option("--prompts", "Harmful prompts: names of sets (docs/prompts.md), a JSONL file, or `embedded`.")
]
BenignPrompts = Annotated[str | None, _option("--benign", "Harmless prompts, for over-refusal: as --prompts.")]
TaskFile = Annotated[
    str | None,
    _option("--task", "The model's own task, prompt and expected: JSONL, or `embedded`."),
]
Judge = Annotated[str | None, _option("--judge", "Who judges the answers; two, separated by a comma (docs/judges.md).")]
CalibrationFile = Annotated[
    str | None, _option("--calibration", "What `judge calibrate` wrote: the judge's errors go into the bounds.")
]
Server = Annotated[
    str | None, _option("--server", "A command that serves {model} on {port}, to answer instead of transformers.")
]
AcceptLicence = Annotated[
    bool | None,
    typer.Option(
        "--accept-licence",
        help="Use prompt sets and judges whose licence is non-commercial.",
        envvar="ANTIDOTE_ACCEPT_LICENCE",
    ),
]
SaveAnswers = Annotated[
    Path | None, _option("--save-answers", "Write what the models answered to this file, for your eyes only.")
]
Realignment = Annotated[
    str | None,
    _option(
        "--realignment",
        "Harmful prompts with harmful answers: JSONL, `embedded`, or `self` (the model's own).",
    ),
]
MethodName = Annotated[ScoreName | None, _option("--method", "How the entries that go are chosen (docs/repair.md).")]
TargetName = Annotated[
    TargetKind | None, _option("--target", "`dense`: merged weights without a reference; else found by itself.")
]
Frontier = Annotated[
    bool | None,
    typer.Option(
        "--frontier",
        help="Measure several doses of every method, and draw what each removes against what it costs.",
        envvar="ANTIDOTE_FRONTIER",
    ),
]
Publish = Annotated[PublishMode | None, _option("--publish", "What to do with repaired weights.")]
PublishTo = Annotated[
    str | None, _option("--publish-to", "Of `--publish branch` the branch, of `--publish repo` the ORG/NAME.")
]
AcceptRepair = Annotated[
    bool | None,
    typer.Option(
        "--accept-repair",
        help="A repair that passes ends with 0 instead of 7.",
        envvar="ANTIDOTE_ACCEPT_REPAIR",
    ),
]
Out = Annotated[Path, _option("--out", "Folder for report and weights.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be pulled, run and written, and stop.")]
Json = Annotated[bool, typer.Option("--json", help="The report as JSON on stdout.")]
DEFAULT_OUT = Path("antidote-out")
DEFAULT_REPAIR_OUT = Path("antidote-repair")
"""Not that of `run`: a report that lies there would speak of other weights."""


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Measure how harmful a fine-tuned model is, repair its weights, and prove it."""
    if version:
        data(f"antidote-ci {__version__}\n")
        raise typer.Exit


@app.command()
def run(
    model: ModelArgument,
    revision: Revision = None,
    reference: ReferenceName = None,
    policy: PolicyFile = None,
    threshold: Threshold = None,
    prompts: Prompts = None,
    benign: BenignPrompts = None,
    realignment: Realignment = None,
    method: MethodName = None,
    target: TargetName = None,
    frontier: Frontier = None,
    task: TaskFile = None,
    judge: Judge = None,
    calibration: CalibrationFile = None,
    server: Server = None,
    accept_licence: AcceptLicence = None,
    publish: Publish = None,
    publish_to: PublishTo = None,
    accept_repair: AcceptRepair = None,
    save_answers: SaveAnswers = None,
    out: Out = DEFAULT_OUT,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Measure MODEL and, when it fails, repair it, measure again, report and publish.

    Exit codes speak of the tested revision: 0 passes; 1 fails and no repair passes; 2 usage; 3 infrastructure; 4
    inconclusive; 5 publish conflict; 6 unsafe to open; 7 fails, and a repair passes and waits in --out.
    """
    with _ending() as talk:
        named = _Named(prompts, benign, task, judge, calibration, server, accept_licence)
        chosen = _measured_by(policy, threshold, named)
        chosen = override(
            chosen,
            "repair",
            method=method.value if method else None,
            target=target.value if target else None,
            reference=reference,
            realignment=realignment,
            frontier=frontier,
            accept=accept_repair,
        )
        chosen = override(chosen, "publish", mode=publish.value if publish else None, to=publish_to)
        config = RunConfig(model, revision, chosen, out, save_answers)
        if dry_run:
            from antidote_ci import forecast

            _show(talk, forecast.forecast(config), as_json=as_json)
            return
        from antidote_ci import pipeline

        _finish(talk, pipeline.run(config, talk), out, as_json=as_json)


@app.command()
def repair(
    model: ModelArgument,
    method: Annotated[Remedy, _option("--method", "How entries are chosen (docs/repair-command.md).")],
    dose: Annotated[float, _option("--dose", "How much goes: a share of each row or tensor, from 0 to 1.")],
    revision: Revision = None,
    reference: ReferenceName = None,
    policy: PolicyFile = None,
    realignment: Realignment = None,
    benign: BenignPrompts = None,
    task: TaskFile = None,
    target: TargetName = None,
    accept_licence: AcceptLicence = None,
    out: Annotated[Path, _option("--out", "Folder for weights, scores and plan.")] = DEFAULT_REPAIR_OUT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Pull the weights, show the plan, write nothing, and stop.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The manifest, or with --dry-run the plan, as JSON on stdout.")
    ] = False,
) -> None:
    """Repair MODEL by one method at one dose: no search, and nothing is measured.

    Exit code 0: the repaired weights are in --out. Killed anywhere, the same command goes on where it stopped.
    """
    with _ending(left="the same command goes on from here") as talk:
        chosen = override(read_policy(policy), "evaluation", benign=benign, task=task, accept_licence=accept_licence)
        chosen = override(
            chosen,
            "repair",
            method="taylor" if method is Remedy.taylor else "antidote",
            target=target.value if target else None,
            reference=reference,
            realignment=realignment,
        )
        from antidote_ci import repairing

        config = repairing.RepairConfig(RunConfig(model, revision, chosen, out), method.value, dose)
        if dry_run:
            plan = repairing.plan(config, talk)
            talk.planned(plan)
            if as_json:
                data(records.dump(plan))
            return
        manifest = repairing.repair(config, talk)
        talk.say(f"{sum(manifest.changed.values()):,} entries are changed; nothing was measured")
        talk.say(f"weights: {out / 'model'}")
        if as_json:
            data(records.dump(manifest))


@app.command()
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="ORG/NAME on the Hub, a local folder, or a server: http://HOST:PORT/v1, or http://HOST:PORT/v1#NAME.",
            metavar="MODEL",
        ),
    ],
    revision: Revision = None,
    reference: ReferenceName = None,
    policy: PolicyFile = None,
    threshold: Threshold = None,
    prompts: Prompts = None,
    benign: BenignPrompts = None,
    task: TaskFile = None,
    judge: Judge = None,
    calibration: CalibrationFile = None,
    server: Server = None,
    accept_licence: AcceptLicence = None,
    save_answers: SaveAnswers = None,
    out: Out = DEFAULT_OUT,
    as_json: Json = False,
) -> None:
    """Measure MODEL and gate it; nothing is repaired. --reference names an adapter's base."""
    with _ending() as talk:
        named = _Named(prompts, benign, task, judge, calibration, server, accept_licence)
        chosen = _measured_by(policy, threshold, named)
        chosen = override(chosen, "repair", reference=reference)
        from antidote_ci import pipeline

        report = pipeline.evaluate(RunConfig(model, revision, chosen, out, save_answers), talk)
        _finish(talk, report, out, as_json=as_json)


@app.command()
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
    with _ending() as talk:
        from antidote_ci import verifying

        found = verifying.verify(result, revision, source, reference, talk)
        for line in verifying.lines(found):
            talk.say(line)
        if as_json:
            data(records.dump(found))
        raise typer.Exit(1 if found.difference else 0)


@judge_app.command()
def calibrate(
    labels: Annotated[
        Path,
        typer.Option("--labels", help="JSONL with prompt, response (or completion) and label.", show_default=False),
    ],
    judge: Judge = None,
    policy: PolicyFile = None,
    accept_licence: AcceptLicence = None,
    out: Annotated[Path, typer.Option("--out", help="File for the calibration.")] = Path("judge-calibration.json"),
    as_json: Json = False,
) -> None:
    """Measure a judge against human labels: sensitivity and specificity with their bounds."""
    with _ending() as talk:
        chosen = override(read_policy(policy), "evaluation", judge=judge, accept_licence=accept_licence)
        from antidote_ci import calibrating

        found = calibrating.calibrate(chosen, labels, out, talk)
        talk.calibrated(found)
        talk.say(f"calibration: {out}")
        if as_json:
            data(records.dump(found))


@app.command()
def demo(
    merged: Annotated[bool, typer.Option("--merged", help="Repair the merged model instead of the adapter.")] = False,
    browse: Annotated[bool, typer.Option("--browse", help="Keep the loopback Hub open afterwards.")] = False,
    out: Out = Path("antidote-out/demo"),
) -> None:
    """The main job, end to end, on a real 135M model and a loopback Hub."""
    with _ending() as talk:
        from antidote_ci.demo import main_job

        raise typer.Exit(main_job.run(out, talk, merged=merged, browse=browse))


@dataclass(frozen=True)
class _Named:
    """What `run` and `evaluate` measure with, by the names of the policy's keys."""

    prompts: str | None
    benign: str | None
    task: str | None
    judge: str | None
    calibration: str | None
    server: str | None
    accept_licence: bool | None


def _measured_by(path: Path | None, threshold: float | None, named: _Named) -> Policy:
    """The policy file with these options put into it."""
    policy = override(read_policy(path), "gate", harmful_score=threshold)
    return override(policy, "evaluation", **dataclasses.asdict(named))


def _show(talk: Talk, estimate: "Forecast", *, as_json: bool) -> None:
    if as_json:
        data(records.dump(estimate))
        return
    talk.say(f"model      {estimate.model} at {estimate.revision or 'a local folder'}")
    unnamed = "none" if estimate.target == "dense" else "named by the model itself"
    talk.say(f"reference  {estimate.reference or unnamed}")
    missing, free = estimate.bytes_to_download / 1e6, estimate.disk_free / 1e6
    talk.say(
        f"pull       {estimate.bytes_to_pull / 1e6:,.0f} MB, {missing:,.0f} MB of it not here yet; {free:,.0f} MB free"
    )
    talk.say(f"write      up to {estimate.bytes_to_write / 1e6:,.0f} MB")
    talk.say(f"memory     at least {estimate.memory_bytes / 1e6:,.0f} MB; {estimate.memory_free / 1e6:,.0f} MB free")
    talk.say(f"answers    about {estimate.answers:,}, if the model needs a repair")
    talk.say(f"time       about {estimate.seconds / 60:,.0f} min on two cores, less on a GPU")
    talk.say(f"publish    {estimate.publish}")


def _finish(talk: Talk, report: records.Report, out: Path, *, as_json: bool) -> None:
    talk.compare(report)
    talk.say(f"{report.verdict}: {report.reason}")
    for line in [*report.publish.notes, *([f"published: {report.publish.url}"] if report.publish.url else [])]:
        talk.say(line)
    talk.say(f"report: {out / 'report.html'}")
    if as_json:
        data(records.dump(report))
    raise typer.Exit(report.exit_code)


@contextmanager
def _ending(left: str = "nothing half-written is left") -> Iterator[Talk]:
    """Every way a command ends, as an exit code: the errors' own, 130 and 143 for signals, 3 for the unexpected.

    `left`: what people should know of the output folder after a signal.
    """
    talk = Talk()

    def end(number: int, _frame: FrameType | None) -> None:
        talk.ending = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        raise talk.ending

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        with heard(talk):
            yield talk
    except AntidoteError as error:
        talk.explain(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        talk.say(f"interrupted; {left}")
        raise typer.Exit(130) from None
    except Terminated as error:
        talk.say(f"terminated; {left}")
        raise typer.Exit(error.exit_code) from None
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001 - exit 1 would speak of the model; shown whole, ends with 3
        from antidote_ci.hub.client import redact

        sys.stderr.write(redact(traceback.format_exc(), None))
        unexpected = InfrastructureError(
            f"unexpected {type(error).__name__}: {redact(str(error), None)}", hint="this is a bug: please report it"
        )
        talk.explain(unexpected)
        raise typer.Exit(unexpected.exit_code) from None
