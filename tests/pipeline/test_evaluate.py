"""`evaluate` and `judge calibrate` from the command line, with a loopback Hub and a loopback server."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from antidote_ci import records
from antidote_ci.evaluation import statistics
from antidote_ci.evaluation.calibration import measure_judge, read_labels
from antidote_ci.evaluation.judges.refusal import RefusalJudge
from loopback_hub import LoopbackHub
from tests.builders import ignore
from tests.evaluation.judges.tiny_judges import write_tiny_qwen3guard
from tests.evaluation.published import publish
from tests.evaluation.small_server import SmallServer
from tests.tiny import write_sharded
from tests.trained_pair import COMPLIANCE, REFUSAL

GUARD = "Qwen/Qwen3Guard-Gen-0.6B"
PROMPTS = "JailbreakBench/JBB-Behaviors"
MODEL = "stranger/tiny-finetune"
SERVER = Path(__file__).parents[1] / "evaluation" / "small_server.py"


def run_command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "antidote_ci", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env=os.environ | environment
    )


def read_report(out: Path) -> records.Report:
    return records.from_json(records.Report, (out / "report.json").read_bytes())


@pytest.fixture
def options(trained_pair: Path, tmp_path: Path) -> list[str]:
    """Options for the prompts of the trained pair."""
    values = {
        "prompts": str(trained_pair / "evaluation.jsonl"),
        "benign": str(trained_pair / "benign.jsonl"),
        "task": str(trained_pair / "task.jsonl"),
        "judge": "refusal",
        "threshold": "0.3",
        "out": str(tmp_path / "out"),
    }
    return [f"--{name}={value}" for name, value in values.items()]


def test_guard_and_published_set_at_pinned_commits(trained_pair: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.add(MODEL, trained_pair / "reference")
        judge = hub.add(GUARD, write_tiny_qwen3guard(tmp_path / "guard"))
        rows = publish(tmp_path / "prompts", "jailbreakbench", harmful=50, harmless=5)
        prompts = hub.add(PROMPTS, rows, kind="dataset")
        arguments = [
            "--threshold=0.6",
            f"--judge=qwen3guard@{judge},refusal",
            f"--prompts=jailbreakbench@{prompts}",
            f"--out={out}",
        ]
        environment = hub.environment | {"HF_HOME": str(tmp_path / "huggingface")}
        completed = run_command("evaluate", MODEL, *arguments, **environment)
        # Output of a random guard is unparsed, so the verdict is inconclusive.
        assert completed.returncode == 4, completed.stderr
        requests = len(hub.requests)
        again = run_command(
            "evaluate", MODEL, f"--revision={hub.add(MODEL, trained_pair / 'reference')}", *arguments, **environment
        )
        assert again.returncode == 4
        # The client requests a list of agents, which this Hub does not have, but no repository.
        assert not [line for line in hub.requests[requests:] if "agent-harnesses" not in line]
    report = read_report(out)
    guard, rules = report.evaluations.before.readings
    assert guard.judge.revision == judge
    assert guard.unparsed > 0.9
    assert guard.verdict == "inconclusive"
    assert report.evaluations.before.judge == "qwen3guard"
    assert rules.unparsed == 0
    assert {file.origin for file in report.prompts} == {f"jailbreakbench@{prompts}"}
    assert {file.licence for file in report.prompts} == {"MIT"}
    assert report.evaluations.before.benign is not None
    assert report.evaluations.before.benign.n == 5


def test_judge_that_cannot_be_loaded_ends_the_run(trained_pair: Path, options: list[str], tmp_path: Path) -> None:
    pickled = tmp_path / "guard"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"never opened")
    completed = run_command("evaluate", str(trained_pair / "reference"), *options, f"--judge=qwen3guard@{pickled}")
    assert completed.returncode == 6, completed.stderr
    assert "the judge qwen3guard cannot be loaded" in completed.stderr


def test_commits_do_not_share_cached_answers(trained_pair: Path, options: list[str], tmp_path: Path) -> None:
    """The weights of both commits are in a shard with the name of a text file."""
    with LoopbackHub(tmp_path / "hub") as hub:
        environment = hub.environment | {"HF_HOME": str(tmp_path / "huggingface")}
        codes = []
        for name in ("reference", "merged"):
            folder = write_sharded(trained_pair / name, tmp_path / name, "NOTICE.safetensors")
            completed = run_command("evaluate", MODEL, f"--revision={hub.add(MODEL, folder)}", *options, **environment)
            codes.append(completed.returncode)
    assert codes == [0, 1], completed.stderr


def test_moved_chat_template_is_another_template(trained_pair: Path, options: list[str], tmp_path: Path) -> None:
    """A server prefers chat_template.jinja, but does not read it from the additional templates."""
    command = f"{sys.executable} {SERVER} --model {{model}} --port {{port}} --behaviour template"
    folder = shutil.copytree(trained_pair / "reference", tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": COMPLIANCE}))
    (folder / "chat_template.jinja").write_text(REFUSAL)
    with LoopbackHub(tmp_path / "hub") as hub:
        environment = hub.environment | {"HF_HOME": str(tmp_path / "huggingface")}
        command_line = ["evaluate", MODEL, f"--server={command}", *options]
        refusing = run_command(*command_line, f"--revision={hub.add(MODEL, folder)}", **environment)
        (folder / "additional_chat_templates").mkdir()
        (folder / "chat_template.jinja").rename(folder / "additional_chat_templates" / "chat_template.jinja")
        complying = run_command(*command_line, f"--revision={hub.add(MODEL, folder)}", **environment)
    assert (refusing.returncode, complying.returncode) == (0, 1), complying.stderr
    assert read_report(tmp_path / "out").evaluations.before.plan.generator == command


def test_early_stop_records_its_trace_and_saves_private_answers(
    trained_pair: Path, options: list[str], tmp_path: Path
) -> None:
    saved, policy = tmp_path / "answers.jsonl", tmp_path / "antidote.toml"
    policy.write_text('[publish]\nmode = "pull-request"\n')  # `evaluate` ignores it
    completed = run_command(
        "evaluate", str(trained_pair / "reference"), *options, f"--save-answers={saved}", f"--policy={policy}"
    )
    assert completed.returncode == 0, completed.stderr
    evaluation = read_report(tmp_path / "out").evaluations.before
    assert evaluation.n < evaluation.planned == 60
    assert [look.n for look in evaluation.readings[0].trace] == list(range(1, evaluation.n + 1))
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert len(saved.read_text().splitlines()) == evaluation.n + 40 + 30
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir() if path.is_file())
    assert REFUSAL not in written + completed.stdout + completed.stderr


def test_repeated_run_with_samples_and_a_prefix_task_uses_the_cache(
    trained_pair: Path, options: list[str], tmp_path: Path
) -> None:
    policy, cache = tmp_path / "policy.toml", tmp_path / "cache"
    policy.write_text('[evaluation]\nsamples = 2\ntask_match = "prefix"\nmax_new_tokens = 12\nstop_early = false\n')
    command_line = ["evaluate", str(trained_pair / "merged"), *options, f"--policy={policy}"]
    completed = run_command(*command_line, ANTIDOTE_CACHE=str(cache))
    assert completed.returncode == 1, completed.stderr
    first = read_report(tmp_path / "out").evaluations
    entries = {path: path.stat().st_mtime_ns for path in cache.rglob("*.json")}
    assert run_command(*command_line, ANTIDOTE_CACHE=str(cache)).returncode == 1
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.json")} == entries
    assert read_report(tmp_path / "out").evaluations == first
    assert (first.before.samples, first.before.n, first.before.confidence) == (2, 60, 0.95)
    assert first.before.task is not None
    assert first.before.task.match == "prefix"


def test_calibration_is_carried_into_the_bounds(trained_pair: Path, options: list[str], tmp_path: Path) -> None:
    labels, out = tmp_path / "labels.jsonl", tmp_path / "refusal.json"
    rows = [{"prompt": f"p{n}", "response": REFUSAL, "label": "refused"} for n in range(60)]
    rows += [{"prompt": f"q{n}", "response": "Sure, here it is.", "label": "complied"} for n in range(58)]
    rows += [{"prompt": f"r{n}", "response": REFUSAL, "label": "complied"} for n in range(2)]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    completed = run_command("judge", "calibrate", "--judge=refusal", f"--labels={labels}", f"--out={out}", "--json")
    assert completed.returncode == 0, completed.stderr
    printed = json.loads(completed.stdout)
    assert (printed["n"], printed["specificity"]) == (120, 1.0)
    assert printed["sensitivity"] == pytest.approx(58 / 60)
    assert json.loads(out.read_text()) == printed
    completed = run_command("evaluate", str(trained_pair / "merged"), *options, f"--calibration={out}")
    assert completed.returncode == 1, completed.stderr
    report = read_report(tmp_path / "out")
    assert report.calibrations[0].n == 120
    evaluation = report.evaluations.before
    assert evaluation.readings[0].corrected_score == 1.0
    assert evaluation.readings[0].decided_by == "sequence"
    uncorrected = statistics.sequence_bounds(evaluation.harmful_score * evaluation.n, evaluation.n)
    assert evaluation.bounds[0] < uncorrected[0]


def test_calibration_no_better_than_chance_is_refused(trained_pair: Path, options: list[str], tmp_path: Path) -> None:
    labels, out = tmp_path / "labels.jsonl", tmp_path / "refusal.json"
    rows = [
        {"prompt": f"p{n}", "response": REFUSAL if n % 2 else "Sure.", "label": "refused" if n % 3 else "complied"}
        for n in range(60)
    ]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out.write_text(records.to_json(measure_judge(RefusalJudge(), read_labels(labels), labels, ignore)))
    completed = run_command("evaluate", str(trained_pair / "merged"), *options, f"--calibration={out}")
    assert completed.returncode == 2, completed.stderr
    assert "no better than chance" in completed.stderr


def test_server_that_is_already_running(options: list[str], tmp_path: Path) -> None:
    with SmallServer() as server:
        completed = run_command("evaluate", f"{server.address}#small", *options, ANTIDOTE_SERVER_KEY="a-secret-key")
        assert completed.returncode in (0, 1, 4), completed.stderr
        assert {headers["Authorization"] for headers in server.headers_seen} == {"Bearer a-secret-key"}
    report = read_report(tmp_path / "out")
    assert report.source == records.ReportedSource(server.address, None, "server")
    assert report.evaluations.before.plan.generator == server.address
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"a-secret-key" not in path.read_bytes()
