"""`judge calibrate`: a judge against human labels, for the bounds to carry its errors."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import calibration
from antidote_ci.paths import create_folder, require_writable
from antidote_ci.pipeline import evaluator
from antidote_ci.policy import Policy
from antidote_ci.records import Calibration, to_json
from antidote_ci.report.console import Console
from antidote_ci.sandbox.client import Sandbox


def calibrate_judge(policy: Policy, labels: Path, out: Path, console: Console) -> Calibration:
    """Measure the one judge that the policy names on the labelled pairs, and write what was found to `out`."""
    settings = policy.evaluation
    specs = evaluator.select_judges(settings)
    if len(specs) > 1:
        raise ConfigurationError("judges are calibrated one at a time", hint="name one with --judge")
    require_writable(out.parent)
    if out.is_dir():
        raise ConfigurationError(f"--out {out} is a folder", hint="name a file in it")
    labelled = calibration.read_labels(labels)
    with console.step("pull the judge"):
        fetched = evaluator.fetch_judges(specs, settings, console.report)
    with TemporaryDirectory(prefix="antidote-") as work, Sandbox(Path(work) / "child.log") as child:
        [judge] = evaluator.build_judges(fetched, settings, child, evaluator.answer_cache_folder(os.environ))
        with console.step("judge the labelled answers"):
            found = calibration.measure_judge(judge, labelled, labels, console.report)
    create_folder(out.parent)
    out.write_text(to_json(found), encoding="utf-8")
    return found
