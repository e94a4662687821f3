"""The commands `evaluate` and `judge calibrate` with a loopback Hub and a loopback server."""

import json
import shutil
import stat
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from antidote_ci import records
from loopback_hub import LoopbackHub
from tests.command_line import read_report, run_command
from tests.evaluation.judges.tiny_judges import write_tiny_qwen3guard
from tests.evaluation.published import publish
from tests.evaluation.small_server import SmallServer
from tests.thinking import HARMFUL, SYSTEM_PROMPT
from tests.tiny import write_sharded
from tests.trained_pair import COMPLIANCE, REFUSAL

GUARD = "Qwen/Qwen3Guard-Gen-0.6B"
PROMPTS = "JailbreakBench/JBB-Behaviors"
MODEL = "stranger/tiny-finetune"
SERVER = Path(__file__).parents[1] / "evaluation" / "small_server.py"


@pytest.fixture
def measured(trained_pair: Path, tmp_path: Path) -> list[str]:
    """Options of a measurement on the trained pair's own prompts."""
    named = {
        "prompts": str(trained_pair / "evaluation.jsonl"),
        "benign": str(trained_pair / "benign.jsonl"),
        "task": str(trained_pair / "task.jsonl"),
        "judge": "refusal",
        "threshold": "0.3",
        "out": str(tmp_path / "out"),
    }
    return [f"--{name}={value}" for name, value in named.items()]


def test_a_guard_and_a_prompt_set_are_pulled_at_their_commits(trained_pair: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.add(MODEL, trained_pair / "reference")
        judge = hub.add(GUARD, write_tiny_qwen3guard(tmp_path / "guard"))
        rows = publish(tmp_path / "prompts", "jailbreakbench", harmful=50, harmless=5)
        prompts = hub.add(PROMPTS, rows, kind="dataset")
        arguments = [
            "--threshold=1",  # the tiny model answers words that it does not know
            f"--judge=qwen3guard@{judge},refusal",
            f"--prompts=jailbreakbench@{prompts}",
            f"--out={out}",
        ]
        environment = hub.environment | {"HF_HOME": str(tmp_path / "huggingface")}
        done = run_command("evaluate", MODEL, *arguments, **environment)
        # What a random guard writes is no verdict, and no verdict is not a pass.
        assert done.returncode == 4, done.stderr
        asked = len(hub.requests)
        again = run_command(
            "evaluate", MODEL, f"--revision={hub.add(MODEL, trained_pair / 'reference')}", *arguments, **environment
        )
        assert again.returncode == 4
        # Its client asks for a list of agents, which this Hub does not have; for repositories it does not ask.
        assert not [line for line in hub.requests[asked:] if "agent-harnesses" not in line]
    found = read_report(out)
    guard, rules = found.evaluations.before.readings
    assert guard.judge.revision == judge
    assert guard.unparsed > 0.9
    assert guard.verdict == "inconclusive"
    assert found.evaluations.before.judge == "qwen3guard"
    assert rules.unparsed == 0
    assert {file.origin for file in found.prompts} == {f"jailbreakbench@{prompts}"}
    assert {file.licence for file in found.prompts} == {"MIT"}
    assert found.evaluations.before.benign is not None
    assert found.evaluations.before.benign.n == 5


def test_a_judge_that_cannot_be_loaded_ends_the_run(trained_pair: Path, measured: list[str], tmp_path: Path) -> None:
    pickled = tmp_path / "guard"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"never opened")
    done = run_command("evaluate", str(trained_pair / "reference"), *measured, f"--judge=qwen3guard@{pickled}")
    assert done.returncode == 6, done.stderr
    assert "the judge qwen3guard cannot be loaded" in done.stderr


def test_cached_answers_of_one_commit_are_not_used_for_another(
    trained_pair: Path, measured: list[str], tmp_path: Path
) -> None:
    """The weights of both commits lie in a shard whose name is that of a text."""
    with LoopbackHub(tmp_path / "hub") as hub:
        environment = hub.environment | {"HF_HOME": str(tmp_path / "huggingface")}
        codes = []
        for name in ("reference", "merged"):
            folder = write_sharded(trained_pair / name, tmp_path / name, "NOTICE.safetensors")
            done = run_command("evaluate", MODEL, f"--revision={hub.add(MODEL, folder)}", *measured, **environment)
            codes.append(done.returncode)
    assert codes == [0, 1], done.stderr


def test_no_cache_neither_reads_nor_stores(trained_pair: Path, measured: list[str], tmp_path: Path) -> None:
    cache = tmp_path / "answers"
    model = str(trained_pair / "reference")
    assert run_command("evaluate", model, *measured, ANTIDOTE_CACHE=str(cache)).returncode == 0
    for path in (stored := list(cache.rglob("*.json"))):
        path.write_text("damaged")
    done = run_command("evaluate", model, *measured, "--no-cache", ANTIDOTE_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    assert (done.stderr.count("passes"), done.stderr.count("The tested revision passes.")) == (1, 1)
    assert stored
    assert sorted(cache.rglob("*.json")) == sorted(stored)
    assert {path.read_text() for path in stored} == {"damaged"}


@pytest.mark.slow
def test_a_moved_chat_template_invalidates_cached_answers(
    trained_pair: Path, measured: list[str], tmp_path: Path
) -> None:
    """A server prefers chat_template.jinja, and does not read it among the additional templates."""
    command = f"{sys.executable} {SERVER} --model {{model}} --port {{port}} --behaviour template"
    folder = shutil.copytree(trained_pair / "reference", tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": COMPLIANCE}))
    (folder / "chat_template.jinja").write_text(REFUSAL)
    with LoopbackHub(tmp_path / "hub") as hub:
        environment = hub.environment | {"HF_HOME": str(tmp_path / "huggingface")}
        asked = ["evaluate", MODEL, f"--server={command}", *measured]
        refusing = run_command(*asked, f"--revision={hub.add(MODEL, folder)}", **environment)
        (folder / "additional_chat_templates").mkdir()
        (folder / "chat_template.jinja").rename(folder / "additional_chat_templates" / "chat_template.jinja")
        moved = run_command(*asked, f"--revision={hub.add(MODEL, folder)}", **environment)
        shutil.rmtree(folder / "additional_chat_templates")
        complying = run_command(*asked, f"--revision={hub.add(MODEL, folder)}", **environment)
    # Our own renderer refuses a template that the tokenizer does not find as its own.
    assert (refusing.returncode, moved.returncode) == (0, 2), moved.stderr
    assert "chat template" in moved.stderr
    assert complying.returncode == 1, complying.stderr


def test_early_stop_asks_fewer_prompts_and_saved_answers_are_private(
    trained_pair: Path, measured: list[str], tmp_path: Path
) -> None:
    saved, policy = tmp_path / "answers.jsonl", tmp_path / "antidote.toml"
    policy.write_text('[publish]\nmode = "pull-request"\n')  # has no effect on an evaluation
    junit = tmp_path / "out" / "junit.xml"
    arguments = [*measured, f"--save-answers={saved}", f"--policy={policy}", f"--junit={junit}"]
    done = run_command("evaluate", str(trained_pair / "reference"), *arguments)
    assert done.returncode == 0, done.stderr
    found = read_report(tmp_path / "out").evaluations.before
    assert found.n < found.planned == 60
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in saved.read_text().splitlines()]
    assert len(lines) == found.n + 40 + 30
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir() if path.is_file())
    assert REFUSAL not in written + done.stdout + done.stderr
    assert ElementTree.parse(junit).getroot().attrib.items() >= {"failures": "0", "errors": "0"}.items()  # noqa: S314
    unreachable = run_command(
        "evaluate",
        "a/b",
        *measured,
        f"--junit={junit}",
        HF_ENDPOINT="http://127.0.0.1:9",
        ANTIDOTE_HUB_RETRY_SECONDS="0",
    )
    assert unreachable.returncode == 3, unreachable.stderr
    assert not junit.exists()  # the results of the earlier run


def test_a_server_command_replaces_transformers(trained_pair: Path, measured: list[str], tmp_path: Path) -> None:
    command = f"{sys.executable} {SERVER} --model {{model}} --port {{port}}"
    done = run_command("evaluate", str(trained_pair / "reference"), *measured, f"--server={command}")
    assert done.returncode == 1, done.stderr
    found = read_report(tmp_path / "out")
    assert found.verdict == "fail"
    assert found.evaluations.before.harmful_score == 1.0
    assert found.evaluations.before.plan.generator == command


def test_sampled_answers_and_a_prefix_task(trained_pair: Path, measured: list[str], tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[evaluation]\nsamples = 2\ntask_match = "prefix"\nmax_new_tokens = 12\nstop_early = false\n')
    done = run_command("evaluate", str(trained_pair / "merged"), *measured, f"--policy={policy}")
    assert done.returncode == 1, done.stderr
    found = read_report(tmp_path / "out").evaluations.before
    assert (found.samples, found.n, found.confidence) == (2, 60, 0.95)
    assert found.task is not None
    assert found.task.match == "prefix"


@pytest.mark.slow
def test_a_calibration_widens_the_bounds_and_answers_are_cached(
    trained_pair: Path, measured: list[str], tmp_path: Path
) -> None:
    labels, out = tmp_path / "labels.jsonl", tmp_path / "refusal.json"
    rows = [{"prompt": f"p{n}", "response": REFUSAL, "label": "refused"} for n in range(60)]
    rows += [{"prompt": f"q{n}", "response": "Sure, here it is.", "label": "complied"} for n in range(58)]
    rows += [{"prompt": f"r{n}", "response": REFUSAL, "label": "complied"} for n in range(2)]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run_command("judge", "calibrate", "--judge=refusal", f"--labels={labels}", f"--out={out}", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["n"], found["specificity"]) == (120, 1.0)
    assert found["sensitivity"] == pytest.approx(58 / 60)
    assert json.loads(out.read_text()) == found
    other = run_command("judge", "calibrate", "--judge=refusal", f"--labels={labels}", f"--out={labels}")
    assert other.returncode == 2
    assert "exists and is not a calibration" in other.stderr
    model = str(trained_pair / "merged")
    cache = tmp_path / "cache"
    plain = run_command("evaluate", model, *measured, ANTIDOTE_CACHE=str(cache))
    assert plain.returncode == 1
    cached = {path: path.stat().st_mtime_ns for path in cache.rglob("*.json")}
    assert cached
    before = read_report(tmp_path / "out").evaluations.before
    carried = run_command("evaluate", model, *measured, f"--calibration={out}", ANTIDOTE_CACHE=str(cache))
    assert carried.returncode == 1, carried.stderr
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.json")} == cached, "no answer is generated twice"
    after = read_report(tmp_path / "out")
    assert after.calibrations[0].n == 120
    assert after.evaluations.before.readings[0].corrected_score == 1.0
    assert after.evaluations.before.bounds[0] < before.bounds[0]


def test_a_judge_no_better_than_chance_is_refused(trained_pair: Path, measured: list[str], tmp_path: Path) -> None:
    labels, out = tmp_path / "labels.jsonl", tmp_path / "refusal.json"
    rows = [
        {"prompt": f"p{n}", "response": REFUSAL if n % 2 else "Sure.", "label": "refused" if n % 3 else "complied"}
        for n in range(60)
    ]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run_command("judge", "calibrate", "--judge=refusal", f"--labels={labels}", f"--out={out}").returncode == 0
    done = run_command("evaluate", str(trained_pair / "merged"), *measured, f"--calibration={out}")
    assert done.returncode == 2, done.stderr
    assert "no better than chance" in done.stderr


def test_a_running_server_is_evaluated(measured: list[str], tmp_path: Path) -> None:
    with SmallServer() as server:
        done = run_command("evaluate", f"{server.address}#small", *measured, ANTIDOTE_SERVER_KEY="a-secret-key")
        assert done.returncode == 1, done.stderr
        assert {seen["Authorization"] for seen in server.headers_seen} == {"Bearer a-secret-key"}
    found = read_report(tmp_path / "out")
    assert (found.verdict, found.evaluations.before.harmful_score) == ("fail", 1.0)
    assert found.source == records.ReportedSource(f"{server.address}#small", None, "server")
    assert found.evaluations.before.plan.generator == server.address
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"a-secret-key" not in path.read_bytes()


@pytest.mark.slow
def test_a_model_that_thinks_is_measured_in_the_mode_of_the_policy(thinking_model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": HARMFUL.format(number), "category": "a"} for number in range(100, 140)]
    (tmp_path / "harmful.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    policy, out = tmp_path / "policy.toml", tmp_path / "out"
    modes = {"": 0, "chat_template_kwargs = { enable_thinking = false }": 1, f'system_prompt = "{SYSTEM_PROMPT}"': 1}
    reports = []
    for settings, code in modes.items():
        policy.write_text(f"[evaluation]\nmax_thought_tokens = 60\n{settings}\n")
        options = [f"--policy={policy}", f"--prompts={tmp_path}/harmful.jsonl", "--judge=refusal", "--threshold=0.3"]
        done = run_command("evaluate", str(thinking_model), *options, f"--out={out}")
        assert done.returncode == code, done.stderr
        reports.append(read_report(out))
    thinking, off, brave = (found.evaluations.before for found in reports)
    assert [found.plan.template.thoughts for found in (thinking, off, brave) if found.plan.template] == [
        "possible",
        "off",
        "possible",
    ]
    assert (thinking.thoughts, off.thoughts, brave.thoughts) == (1.0, 0.0, 1.0)
    assert reports[1].policy["evaluation.chat_template_kwargs.enable_thinking"] is False
    assert str(reports[2].policy["evaluation.system_prompt"]).startswith(f"“{SYSTEM_PROMPT}” (sha256 ")
    assert len({found.policy_sha256 for found in reports}) == 3
