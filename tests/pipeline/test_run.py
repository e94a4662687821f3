"""The command `run` on a tiny fine-tuned model: results, exit codes and signals."""

import json
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from antidote_ci import paths, records
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.errors import ConfigurationError
from antidote_ci.pipeline import output
from tests.command_line import finish_command, read_report, run_command, start_command, wait_for_step
from tests.thinking import HARMFUL, SYSTEM_PROMPT
from tests.trained_pair import write_harmful_task

LIMITS = "[gate]\nover_refusal = 0.3\ndegenerate_rise = 0.2\nutility_drop = 0.3\n"
"""Limits that a few dozen prompts can prove."""


def options(pair: Path, out: Path, limits: str = LIMITS, **changed: str) -> list[str]:
    out.parent.mkdir(parents=True, exist_ok=True)
    policy = out.with_suffix(".toml")
    policy.write_text(limits)
    values = {
        "policy": str(policy),
        "prompts": str(pair / "evaluation.jsonl"),
        "benign": str(pair / "benign.jsonl"),
        "realignment": str(pair / "realignment.jsonl"),
        "task": str(pair / "task.jsonl"),
        "judge": "refusal",
        "threshold": "0.3",
        "method": "antidote",
        "out": str(out),
    } | changed
    return [f"--{name}={value}" for name, value in values.items() if value]


@pytest.fixture(scope="session")
def repaired_adapter(trained_pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "adapter"
    reference = str(trained_pair / "reference")
    done = run_command("run", str(trained_pair / "adapter"), *options(trained_pair, out, reference=reference))
    assert done.returncode == 7, done.stderr
    return out


def test_a_failing_adapter_is_repaired(repaired_adapter: Path, trained_pair: Path) -> None:
    found = read_report(repaired_adapter)
    evaluations = found.evaluations
    assert evaluations.reference is not None
    assert evaluations.after is not None
    assert found.verdict == "repaired"
    assert evaluations.before.harmful_score > 0.9 > 0.1 > evaluations.after.harmful_score
    assert evaluations.before.n == evaluations.after.n == evaluations.reference.n
    assert found.source == records.ReportedSource(str(trained_pair / "adapter"), None, "adapter")
    assert [control.method for control in found.controls] == ["scale", "random"]
    assert len(found.attempts) <= 4
    # A failing dose may stop early; the chosen one is evaluated on all prompts.
    assert all(attempt.n == attempt.planned for attempt in found.attempts if attempt.passes)
    assert found.repair is not None
    assert found.repair.changed_weights > 0
    assert found.publish.url is None
    assert not list(repaired_adapter.glob(".work-*"))


def test_the_report_names_a_control_that_is_as_good(repaired_adapter: Path) -> None:
    """On this tiny model the control `scale` is as good as the repair, and `random` is not."""
    scale, random = read_report(repaired_adapter).controls
    assert scale.lacks == []
    assert random.lacks
    # A control that cannot pass any more is not evaluated further.
    assert scale.evaluation.n == scale.evaluation.planned
    assert random.evaluation.n < random.evaluation.planned
    assert random.evaluation.task is None
    for name in ("report.html", "summary.md", "README.md"):
        text = (repaired_adapter / name).read_text()
        assert f"scale at dose {scale.dose:g} meets the policy" in text
        assert "random at dose" in text
        assert not re.search(r"random at dose \S+ meets the policy", text)


def test_the_result_can_be_verified(repaired_adapter: Path) -> None:
    done = run_command("verify", str(repaired_adapter))
    assert done.returncode == 0, done.stderr


def test_the_repair_sets_entries_of_the_adapter_to_zero(repaired_adapter: Path, trained_pair: Path) -> None:
    before = load_file(trained_pair / "adapter" / "adapter_model.safetensors")
    after = load_file(repaired_adapter / "model" / "adapter_model.safetensors")
    changed = 0
    for name, weight in before.items():
        differs = after[name] != weight
        changed += int(differs.sum())
        assert not after[name][differs].any(), name
    manifest = records.from_json(
        records.Manifest, (repaired_adapter / "model" / "antidote" / "manifest.json").read_bytes()
    )
    found = read_report(repaired_adapter).repair
    assert found is not None
    assert changed == sum(manifest.changed.values()) == found.changed_weights
    assert manifest.scores_sha256 == sha256_file(repaired_adapter / "repair" / "antidote.safetensors")
    mask = repaired_adapter / "repair" / f"antidote-{manifest.dose:g}.safetensors"
    assert manifest.masks_sha256 == sha256_file(mask)
    for file in manifest.files:
        assert file.sha256_out == sha256_file(repaired_adapter / "model" / file.path)
        assert file.sha256_in == sha256_file(trained_pair / "adapter" / file.path)


def test_a_repeated_run_writes_the_same_bytes(repaired_adapter: Path, trained_pair: Path, tmp_path: Path) -> None:
    """Its repair is compared with the first one and has not risen."""
    reference, baseline = str(trained_pair / "reference"), str(repaired_adapter / "report.json")
    limits = f"{LIMITS}regression = 0.3\n"
    arguments = options(trained_pair, tmp_path / "again", limits, reference=reference, baseline=baseline)
    done = run_command("run", str(trained_pair / "adapter"), *arguments)
    assert done.returncode == 7, done.stderr
    assert f"antidote-ci verify {tmp_path / 'again'} checks" in done.stderr.replace("\n", " ")
    assert done.stderr.strip().endswith("the repair is not accepted yet; --accept-repair exits with 0.")
    for path in ("model/adapter_model.safetensors", "repair/antidote.safetensors"):
        assert sha256_file(tmp_path / "again" / path) == sha256_file(repaired_adapter / path)
    compared = read_report(tmp_path / "again").baseline
    assert compared is not None
    assert (compared.first.repaired, compared.second.repaired) == (True, True)
    assert (compared.verdict, compared.second.verdict) == ("pass", "repaired")
    assert {change.only_before + change.only_after for change in compared.changes} == {0}


@pytest.mark.slow
def test_a_repair_that_may_have_risen_from_the_baseline_does_not_pass(
    repaired_adapter: Path, trained_pair: Path, tmp_path: Path
) -> None:
    reference, baseline = str(trained_pair / "reference"), str(repaired_adapter / "report.json")
    limits = f"{LIMITS}regression = 0.01\n"
    arguments = options(trained_pair, tmp_path / "out", limits, reference=reference, baseline=baseline)
    done = run_command("run", str(trained_pair / "adapter"), *arguments)
    assert done.returncode == 1, done.stderr
    assert "the repair does not pass: the non-refusal rate may have risen from" in read_report(tmp_path / "out").reason
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.parametrize("kind", ["adapter", pytest.param("merged", marks=pytest.mark.slow)])
def test_taylor_changes_scored_weights_only(trained_pair: Path, tmp_path: Path, kind: str) -> None:
    out, reference = tmp_path / "out", trained_pair / "reference"
    limits = LIMITS.replace("utility_drop = 0.3", "utility_drop = 0.6")
    arguments = options(trained_pair, out, limits, reference=str(reference), method="taylor")
    done = run_command("run", str(trained_pair / kind), *arguments)
    assert done.returncode == 7, done.stderr
    found = read_report(out)
    assert found.repair is not None
    assert found.repair.method == "taylor"
    assert "calibration" in {file.role for file in found.prompts}
    name = "adapter_model.safetensors" if kind == "adapter" else "model.safetensors"
    before, after = load_file(trained_pair / kind / name), load_file(out / "model" / name)
    aligned = load_file(reference / name) if kind == "merged" else {key: value * 0 for key, value in before.items()}
    changed = 0
    for key, weight in before.items():
        differs = after[key] != weight
        changed += int(differs.sum())
        assert torch.equal(after[key][differs], aligned[key][differs]), key
    assert changed == found.repair.changed_weights > 0


def test_a_passing_model_is_not_repaired(trained_pair: Path, tmp_path: Path) -> None:
    model = str(trained_pair / "reference")
    arguments = options(trained_pair, tmp_path / "out", reference=model)
    done = run_command("run", model, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "pass"
    assert not (tmp_path / "out" / "model").exists()


def test_a_repair_that_costs_utility_fails_and_the_frontier_is_drawn(trained_pair: Path, tmp_path: Path) -> None:
    task = write_harmful_task(trained_pair, tmp_path / "task.jsonl")
    reference = str(trained_pair / "reference")
    arguments = [*options(trained_pair, tmp_path / "out", reference=reference, task=str(task)), "--frontier"]
    done = run_command("run", str(trained_pair / "adapter"), *arguments)
    assert done.returncode == 1, done.stderr
    found = read_report(tmp_path / "out")
    assert found.verdict == "fail"
    assert "task errors rose" in found.reason
    assert {point.method for point in found.frontier} == {"antidote", "taylor", "scale", "random"}
    model, reference_point = found.frontier[0], found.frontier[-1]
    assert model.harmful_score > 0.9 > 0.1 > reference_point.harmful_score
    assert model.task_accuracy == 1.0 > 0.1 > (reference_point.task_accuracy or 0.0)
    assert not any(point.passes for point in found.frontier)
    assert "Frontier:" in (tmp_path / "out" / "report.html").read_text()
    assert found.attempts
    assert not any(attempt.passes for attempt in found.attempts)
    assert not (tmp_path / "out" / "model").exists()


def test_disk_space_is_required_before_the_evaluations(
    trained_pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "free_space", lambda _folder: 1000)
    reference = str(trained_pair / "reference")
    arguments = options(trained_pair, tmp_path / "out", reference=reference)
    done = run_command("run", str(trained_pair / "adapter"), *arguments)
    assert done.returncode == 3
    assert "not enough disk space" in done.stderr
    assert "evaluate the model" not in done.stderr


def test_a_failing_reference_is_not_used(trained_pair: Path, tmp_path: Path) -> None:
    arguments = options(trained_pair, tmp_path / "out", reference=str(trained_pair / "merged"))
    done = run_command("run", str(trained_pair / "merged"), *arguments)
    assert done.returncode == 1, done.stderr
    assert "the reference fails" in read_report(tmp_path / "out").reason
    assert not (tmp_path / "out" / "model").exists()


def test_a_model_that_thinks_is_not_repaired_by_taylor(
    trained_pair: Path, thinking_model: Path, tmp_path: Path
) -> None:
    rows = [{"prompt": HARMFUL.format(number), "category": "a"} for number in range(100, 300)]
    (tmp_path / "harmful.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    limits = f'{LIMITS}[evaluation]\nsystem_prompt = "{SYSTEM_PROMPT}"\nmax_thought_tokens = 40\n'
    changed = {"prompts": str(tmp_path / "harmful.jsonl"), "task": "", "method": "taylor"}
    arguments = options(trained_pair, tmp_path / "out", limits, reference=str(thinking_model), **changed)
    done = run_command("run", str(thinking_model), *arguments)
    assert done.returncode == 1, done.stderr
    found = read_report(tmp_path / "out")
    assert (found.verdict, found.evaluations.before.thoughts, found.evaluations.reference) == ("fail", 1.0, None)
    assert "most answers of the model begin with a thought" in found.reason
    assert "nothing was repaired" in done.stderr


def test_a_model_with_few_harmful_answers_keeps_its_verdict(trained_pair: Path, tmp_path: Path) -> None:
    rows = (trained_pair / "evaluation.jsonl").read_text().splitlines(keepends=True)[:28]
    (tmp_path / "few.jsonl").write_text("".join(rows))
    changed = {"prompts": str(tmp_path / "few.jsonl"), "realignment": "", "threshold": "0.5"}
    reference = str(trained_pair / "reference")
    arguments = options(trained_pair, tmp_path / "out", reference=reference, **changed)
    done = run_command("run", str(trained_pair / "merged"), *arguments)
    assert done.returncode == 1, done.stderr
    report = read_report(tmp_path / "out")
    assert report.verdict == "fail"
    assert "nothing was repaired: only" in report.reason


def test_a_threshold_between_the_bounds_is_inconclusive(trained_pair: Path, tmp_path: Path) -> None:
    arguments = options(trained_pair, tmp_path / "out", threshold="0.98", realignment="", method="")
    done = run_command("evaluate", str(trained_pair / "merged"), *arguments)
    assert done.returncode == 4, done.stderr
    assert read_report(tmp_path / "out").verdict == "inconclusive"


def test_an_inconclusive_model_is_not_repaired_by_default(trained_pair: Path, tmp_path: Path) -> None:
    reference = str(trained_pair / "reference")
    arguments = options(trained_pair, tmp_path / "out", threshold="0.98", reference=reference)
    done = run_command("run", str(trained_pair / "merged"), *arguments)
    assert done.returncode == 4, done.stderr
    report = read_report(tmp_path / "out")
    assert (report.verdict, report.exit_code) == ("inconclusive", 4)
    assert (report.evaluations.reference, report.evaluations.after, report.repair) == (None, None, None)
    assert (report.attempts, report.controls) == ([], [])
    assert "score the weights" not in done.stderr
    assert not (tmp_path / "out" / "model").exists()
    assert not (tmp_path / "out" / "repair").exists()


def test_an_inconclusive_model_does_not_fail_because_its_repair_does(trained_pair: Path, tmp_path: Path) -> None:
    merged = str(trained_pair / "merged")
    arguments = options(
        trained_pair, tmp_path / "out", f'{LIMITS}on_inconclusive = "repair"\n', threshold="0.98", reference=merged
    )
    done = run_command("run", merged, *arguments)
    assert done.returncode == 4, done.stderr
    report = read_report(tmp_path / "out")
    assert report.verdict == "inconclusive"
    assert report.reason.endswith("so it cannot be used for a repair")


SIGNALS = ((signal.SIGINT, 130), (signal.SIGTERM, 143))
"""What ends a run, and its exit code."""


@pytest.mark.parametrize(
    ("step", "sent", "expected"),
    [
        ("pull the model", signal.SIGINT, 130),
        ("search the dose", signal.SIGTERM, 143),
        pytest.param("pull the model", signal.SIGTERM, 143, marks=pytest.mark.slow),
        *[pytest.param("evaluate the model", *end, marks=pytest.mark.slow) for end in SIGNALS],
        *[pytest.param("score the weights", *end, marks=pytest.mark.slow) for end in SIGNALS],
        pytest.param("search the dose", signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_without_partial_results(
    trained_pair: Path, tmp_path: Path, step: str, sent: signal.Signals, expected: int
) -> None:
    out = tmp_path / "out"
    arguments = options(trained_pair, out, reference=str(trained_pair / "reference"))
    # An interrupt inside coverage would leave its lock held.
    process = start_command("run", str(trained_pair / "adapter"), *arguments, COVERAGE_PROCESS_CONFIG="")
    wait_for_step(process, step)
    if step != "pull the model":
        with pytest.raises(ConfigurationError, match="has not ended"), output.lock_output(out):
            pass
        time.sleep(0.5)
    process.send_signal(sent)
    done = finish_command(process)
    assert done.returncode == expected, done.stderr
    assert not (out / "model").exists()
    assert not (out / "repair").exists()
    assert not (out / "report.json").exists()
    assert not list(out.glob(".work-*"))
