"""A run's prompts: what shapes a repair never measures it."""

import json
from pathlib import Path

import pytest

from antidote_ci.config import Policy, override
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import splits
from antidote_ci.evaluation.prompts import key


def file(tmp_path: Path, name: str, count: int, **fields: str) -> str:
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{name} {n}", **fields}) + "\n" for n in range(count)))
    return str(path)


def policy(tmp_path: Path, **repair: str) -> Policy:
    named = override(
        Policy(),
        "evaluation",
        prompts=file(tmp_path, "harmful", 400),
        benign=file(tmp_path, "benign", 100),
        task=file(tmp_path, "task", 100, expected="yes"),
    )
    return override(named, "repair", **repair)


@pytest.mark.parametrize("method", ["antidote", "taylor"])
def test_no_prompt_does_two_jobs(tmp_path: Path, method: str) -> None:
    found = splits.for_run(policy(tmp_path, method=method))
    jobs = [
        found.realignment,
        found.benign_calibration,
        found.task_calibration,
        *(
            getattr(half, kind)
            for half in (found.selection, found.confirmation)
            for kind in ("harmful", "benign", "task")
        ),
    ]
    keys = [key(row.prompt) for rows in jobs for row in rows]
    assert len(keys) == len(set(keys)) == 600
    assert bool(found.task_calibration) == bool(found.benign_calibration) == (method == "taylor")
    assert len(found.selection.harmful) < len(found.confirmation.harmful)


def test_a_realignment_file_that_measures_too_is_refused(tmp_path: Path) -> None:
    named = policy(tmp_path)
    shared = file(tmp_path, "harmful", 400, response="Sure.")
    named = override(named, "repair", realignment=shared)
    with pytest.raises(ConfigurationError, match="also stands in the realignment set"):
        splits.for_run(override(named, "evaluation", prompts=shared))


def test_too_few_prompts_to_certify_are_refused_with_the_number(tmp_path: Path) -> None:
    named = override(policy(tmp_path), "evaluation", prompts=file(tmp_path, "few", 40))
    with pytest.raises(ConfigurationError, match=r"a threshold of 0\.1 needs 29"):
        splits.for_run(named)


def test_taylor_must_know_what_to_keep(tmp_path: Path) -> None:
    bare = override(Policy(), "evaluation", prompts=file(tmp_path, "harmful", 400))
    with pytest.raises(ConfigurationError, match="what the model must keep"):
        splits.for_run(override(bare, "repair", method="taylor"))


def test_the_report_never_holds_a_path(tmp_path: Path) -> None:
    found = splits.for_run(policy(tmp_path))
    assert {described.origin for described in found.files} == {"self", "harmful.jsonl", "benign.jsonl", "task.jsonl"}


def test_the_embedded_sets_are_enough_for_the_demo() -> None:
    named = override(Policy(), "evaluation", prompts="embedded", benign="embedded", task="embedded")
    named = override(named, "repair", realignment="embedded", method="taylor")
    found = splits.for_run(override(named, "gate", harmful_score=0.35))
    assert (len(found.confirmation.harmful), len(found.selection.harmful)) == (100, 40)
