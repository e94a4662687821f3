"""`antidote-ci evaluate`."""

from typing import Annotated

import typer

from antidote_ci.cli.ending import handle_exit
from antidote_ci.cli.measuring import EvaluationOptions, build_policy, exit_with_verdict
from antidote_ci.cli.options import (
    DEFAULT_OUT,
    AcceptLicence,
    BenignPrompts,
    CalibrationFile,
    Json,
    Judge,
    Out,
    PolicyFile,
    Prompts,
    ReferenceName,
    Revision,
    SaveAnswers,
    Server,
    TaskFile,
    Threshold,
    Where,
)
from antidote_ci.policy import RunConfig, override_section


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
    on: Where = "here",
    out: Out = DEFAULT_OUT,
    as_json: Json = False,
) -> None:
    """Measure MODEL and gate it; nothing is repaired. --reference names an adapter's base."""
    with handle_exit() as talk:
        named = EvaluationOptions(prompts, benign, task, judge, calibration, server, accept_licence)
        chosen = build_policy(policy, threshold, named)
        chosen = override_section(chosen, "repair", reference=reference)
        config = RunConfig(model, revision, chosen, out, save_answers)
        if on == "hf-jobs":
            from antidote_ci.jobs import submit

            exit_with_verdict(talk, submit.run_as_job("evaluate", config, talk), out, as_json=as_json)
        from antidote_ci.pipeline import evaluate as pipeline

        exit_with_verdict(talk, pipeline.evaluate(config, talk), out, as_json=as_json)
