"""`antidote-ci evaluate`."""

from typing import Annotated

import typer

from antidote_ci.cli.ending import ending
from antidote_ci.cli.measuring import Named, finish, measured_by
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
from antidote_ci.policy import RunConfig, override


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
    with ending() as talk:
        named = Named(prompts, benign, task, judge, calibration, server, accept_licence)
        chosen = measured_by(policy, threshold, named)
        chosen = override(chosen, "repair", reference=reference)
        config = RunConfig(model, revision, chosen, out, save_answers)
        if on == "hf-jobs":
            from antidote_ci.jobs import submit

            finish(talk, submit.run("evaluate", config, talk), out, as_json=as_json)
        from antidote_ci.pipeline import evaluate as pipeline

        finish(talk, pipeline.evaluate(config, talk), out, as_json=as_json)
