"""`judge calibrate`: a judge against human labels, for the bounds to carry its errors."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import calibration
from antidote_ci.paths import made, require_writable
from antidote_ci.pipeline import evaluator
from antidote_ci.policy import Policy
from antidote_ci.records import Calibration, dump
from antidote_ci.report.console import Talk
from antidote_ci.sandbox.client import Child


def calibrate(policy: Policy, labels: Path, out: Path, talk: Talk) -> Calibration:
    """Measure the one judge that the policy names on the labelled pairs, and write what was found to `out`."""
    settings = policy.evaluation
    specs = evaluator.judges_named(settings)
    if len(specs) > 1:
        raise ConfigurationError("judges are calibrated one at a time", hint="name one with --judge")
    require_writable(out.parent)
    if out.is_dir():
        raise ConfigurationError(f"--out {out} is a folder", hint="name a file in it")
    labelled = calibration.read_labels(labels)
    with talk.step("pull the judge"):
        fetched = evaluator.fetch_judges(specs, settings, talk.report)
    with TemporaryDirectory(prefix="antidote-") as work, Child(Path(work) / "child.log") as child:
        [judge] = evaluator.judges(fetched, settings, child, evaluator.answers_folder(os.environ))
        with talk.step("judge the labelled answers"):
            found = calibration.calibrate(judge, labelled, labels, talk.report)
    made(out.parent)
    out.write_text(dump(found), encoding="utf-8")
    return found
