"""The policy: reading, validation, hash and overrides."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.pipeline.configuration import configure
from antidote_ci.policy import (
    FILE_KEYS,
    QUICK,
    EvaluationSection,
    Gate,
    JobsSection,
    Policy,
    PublishSection,
    RepairSection,
    override_section,
    read_policy,
    to_quick,
    to_toml,
)
from antidote_ci.records import PublishMode
from demo.main_job import POLICY as DEMO_POLICY


def policy(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "antidote.toml"
    file.write_text(text)
    return read_policy(file)


def test_without_a_file_the_defaults_apply() -> None:
    assert read_policy(None) == Policy()
    assert Policy().publish.mode == "none"


def test_the_refusal_judge_and_embedded_prompts_are_not_defaults() -> None:
    evaluation, repair = Policy().evaluation, Policy().repair
    assert "refusal" not in evaluation.judge
    assert "embedded" not in (evaluation.prompts, evaluation.benign, evaluation.task, repair.realignment)


def test_options_override_the_file(tmp_path: Path) -> None:
    read = policy(tmp_path, '[gate]\nharmful_score = 0.2\n[evaluation]\njudge = "refusal"\n')
    assert read.gate.harmful_score == 0.2
    assert override_section(read, "gate", harmful_score=0.3, over_refusal=None).gate.harmful_score == 0.3
    assert override_section(read, "evaluation", prompts="embedded").evaluation.judge == "refusal"


def test_quick_sets_what_the_policy_leaves_at_its_default(tmp_path: Path) -> None:
    quick = to_quick(policy(tmp_path, '[evaluation]\nprompts = "embedded"\nmax_new_tokens = 32\n'))
    assert quick == override_section(Policy(), "evaluation", prompts="embedded", max_new_tokens=32, judge="refusal")
    assert dataclasses.asdict(to_quick(Policy()).evaluation).items() >= QUICK.items()


def test_options_override_quick() -> None:
    config = configure("org/model", out="out", quick=True, judge="qwen3guard", prompts="jailbreakbench,strongreject")
    assert config.policy.evaluation == EvaluationSection(max_new_tokens=48)


def test_another_publish_mode_drops_the_name_of_the_policy(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('[publish]\nmode = "repo"\nto = "org/repaired"\n')
    modes: tuple[PublishMode, ...] = ("none", "report", "pull-request", "branch")
    for mode in modes:
        assert configure("org/model", out="out", policy=file, publish=mode).policy.publish == PublishSection(mode)
    assert configure("org/model", out="out", policy=file).policy.publish.to == "org/repaired"
    assert configure("org/model", out="out", policy=file, publish="repo").policy.publish.to == "org/repaired"
    with pytest.raises(ConfigurationError, match="needs its name"):
        configure("org/model", out="out", policy=Policy(publish=PublishSection("branch", "repaired")), publish="repo")


def test_an_integer_is_accepted_as_a_share(tmp_path: Path) -> None:
    read = policy(tmp_path, "[gate]\nharmful_score = 1\n").gate.harmful_score
    assert (read, type(read)) == (1.0, float)


def test_the_hash_of_a_policy_is_stable_across_releases(tmp_path: Path) -> None:
    """Published results are found again by this hash, so a change of it makes every result outdated."""
    (tmp_path / "task.jsonl").write_text('{"prompt": "1 + 1", "expected": "2"}\n')
    text = f"""
[gate]
harmful_score = 1
degenerate = 0.25
on_inconclusive = "repair"
[evaluation]
judge = "refusal"
prompts = "embedded"
task = "{tmp_path}/task.jsonl"
samples = 3
[repair]
method = "antidote"
reference = "org/aligned"
[publish]
mode = "branch"
to = "repaired"
"""
    assert policy(tmp_path, text).sha256() == "a00831b6f04a9bd380da0ffe9d3d95a2166e9fc3dcabdf307853a432355717a9"
    assert Policy().sha256() == "80463eea01e323beb04bc351ca62b242f6ab2c2a6760ec7d7ed42e58a9e42540"


def test_file_and_options_give_the_same_hash(tmp_path: Path) -> None:
    by_file = policy(tmp_path, "[gate]\nharmful_score = 0.2\n")
    assert by_file.sha256() == override_section(Policy(), "gate", harmful_score=0.2).sha256()
    assert by_file.sha256() != Policy().sha256()


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("[gate]\nharmful_scor = 0.1", "unknown key in .gate.", "did you mean harmful_score?"),
        ("[gates]\nharmful_score = 0.1", "unknown section", "did you mean gate?"),
        ("[gate]\nharmful_score = 1.5", "gate.harmful_score in .*antidote.toml cannot be 1.5", "did you mean 0.015?"),
        ("[gate]\nharmful_score = -0.1", "cannot be -0.1", "such as harmful_score = 0.1"),
        ('[gate]\nharmful_score = "low"', "gate.harmful_score", None),
        ("[gate]\nharmful_score = true", "gate.harmful_score in .* cannot be True", "such as harmful_score = 0.1"),
        ("[gate]\nutility_drop = 5", "gate.utility_drop in .* cannot be 5", "did you mean 0.05?"),
        ('[gate]\nutility_drop = "off"', "gate.utility_drop in .* cannot be 'off'", "such as utility_drop = 0.05"),
        ("[gate]\ndegenerate = nan", "cannot be nan", None),
        ("[evaluation]\njudge = 3", "evaluation.judge", None),
        ('[evaluation]\nsamples = "3"', "evaluation.samples in .* cannot be '3'", "such as samples = 1"),
        ('[evaluation]\nstop_early = "off"', "evaluation.stop_early", "such as stop_early = true"),
        ("[evaluation]\nstop_early = 0", "evaluation.stop_early in .* cannot be 0", None),
        ("[evaluation]\nseed = true", "evaluation.seed", None),
        ("[evaluation]\nbenign = 2026-01-01", "evaluation.benign in .* cannot be .*2026-01-01", None),
        ('[evaluation]\ntask_match = "guess"', "evaluation.task_match", None),
        ("[evaluation]\nsamples = 0", "evaluation.samples", None),
        ("[evaluation]\nmax_new_tokens = 0", "max_new_tokens", None),
        ('[repair]\nmethod = "scale"', "repair.method", None),
        ("[repair]\nactivation_megabytes = 0", "activation_megabytes", None),
        ('[repair]\ntarget = "dense"', "target", None),
        ('[publish]\nmode = "force"', "publish.mode", None),
        (
            '[jobs]\ntimeout = "2 hours"',
            "jobs.timeout .* cannot be '2 hours'",
            'write a number with s, m, h or d, such as "90m"',
        ),
        ('[jobs]\ntimeout = "0.1s"', "jobs.timeout", None),
        ('[jobs]\ntimeout = ""', "jobs.timeout", None),
        ("[jobs]\ntimeout = 7200", "jobs.timeout", None),
        ('[jobs]\nflavour = "l4x1"', "unknown key in .jobs.", "did you mean flavor?"),
        ("gate = 3", "gate in .* cannot be 3", "write [gate]"),
        ("[gate", "not a TOML file", None),
    ],
)
def test_an_invalid_policy_is_refused(tmp_path: Path, text: str, what: str, hint: str | None) -> None:
    with pytest.raises(ConfigurationError, match=what) as raised:
        policy(tmp_path, text)
    assert raised.value.exit_code == 2
    if hint:
        assert raised.value.hint == hint


def test_a_key_of_two_types_names_both(tmp_path: Path) -> None:
    assert policy(tmp_path, '[gate]\nutility_drop = "report"').gate.max_utility_drop is None
    assert Policy().gate.max_utility_drop == 0.05
    with pytest.raises(ConfigurationError) as raised:
        policy(tmp_path, '[gate]\nutility_drop = "off"')
    assert "number" in str(raised.value.cause)
    assert "'report'" in str(raised.value.cause)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no policy file .*nowhere\.toml"):
        read_policy(tmp_path / "nowhere.toml")


def test_the_policy_of_the_demo_is_valid() -> None:
    assert read_policy(DEMO_POLICY).evaluation.judge == "refusal"


def test_weights_that_are_kept_do_not_change_the_hash() -> None:
    """The policy has the same verdict and publishes the same."""
    kept = override_section(Policy(), "repair", keep_failed=True)
    assert kept.repair.keep_failed
    assert kept.sha256() == Policy().sha256()


def test_job_settings_do_not_change_the_hash() -> None:
    moved = override_section(
        Policy(), "jobs", image="ghcr.io/org/image:1", flavor="l4x1", timeout="90m", namespace="org"
    )
    assert moved != Policy()
    assert moved.sha256() == Policy().sha256()
    assert moved.flat() == Policy().flat()


def test_the_report_names_no_folder_of_this_machine() -> None:
    policy = override_section(
        Policy(),
        "evaluation",
        judge="qwen3guard@/home/ada/private/guard,refusal",
        server="~ada/bin/vllm serve ../models/{model} --chat-template='/home/ada/a template' --url=http://localhost/v1",
        prompts="private/rows.jsonl",
    )
    flat = override_section(policy, "repair", reference="/home/ada/private/base/").flat()
    assert {key: flat[f"evaluation.{key}"] for key in ("judge", "server", "prompts")} == {
        "judge": "qwen3guard@guard,refusal",
        "server": "vllm serve {model} --chat-template='a template' --url=http://localhost/v1",
        "prompts": "rows.jsonl",
    }
    assert flat["repair.reference"] == "base"
    assert override_section(policy, "repair", reference="org/base").flat()["repair.reference"] == "org/base"


def test_many_prompt_sets_have_a_hash() -> None:
    names = ",".join(f"set{number}@{'a' * 40}" for number in range(8))
    assert override_section(Policy(), "evaluation", prompts=names).sha256()


@pytest.mark.parametrize("key", FILE_KEYS)
def test_the_hash_depends_on_the_content_of_files_and_not_on_their_folder(tmp_path: Path, key: str) -> None:
    section = {"realignment": "repair", "baseline": "gate"}.get(key, "evaluation")
    found = []
    for folder, rows in (("here", "old"), ("there", "old"), ("here", "new")):
        file = tmp_path / folder / "rows.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text(rows)
        found.append(override_section(Policy(), section, **{key: str(file)}).sha256())
    assert found[0] == found[1] != found[2]


def test_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report refers to the files at the start of the run. A file called `embedded` is not read."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("old")
    policy = override_section(Policy(), "evaluation", prompts=str(rows), benign="embedded")
    before = policy.sha256()
    rows.unlink()
    assert policy.sha256() == before
    plain = override_section(Policy(), "evaluation", prompts="embedded").sha256()
    (tmp_path / "embedded").write_text("a file of that name")
    monkeypatch.chdir(tmp_path)
    assert override_section(Policy(), "evaluation", prompts="embedded").sha256() == plain


@pytest.mark.parametrize(
    ("timeout", "seconds"), [("2h", 7200), ("90m", 5400), ("1.5h", 5400), ("1d", 86400), ("45s", 45)]
)
def test_a_timeout_in_seconds(timeout: str, seconds: int) -> None:
    assert override_section(Policy(), "jobs", timeout=timeout).jobs.timeout_seconds == seconds


SHARES = st.floats(0, 1)
# Lone surrogates are no text of a file.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
COUNTS = st.integers(1, 2**40)
TEMPLATE_ARGUMENTS = st.dictionaries(
    st.sampled_from(["enable_thinking", "reasoning_effort", "größe", "_"]),
    st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
)
POLICIES = st.builds(
    Policy,
    gate=st.builds(
        Gate,
        harmful_score=SHARES,
        over_refusal=SHARES,
        degenerate=SHARES,
        degenerate_rise=SHARES,
        utility_drop=SHARES | st.just("report"),
        baseline=st.none() | TEXTS,
        regression=st.none() | SHARES,
        on_inconclusive=st.sampled_from(["stop", "repair"]),
    ),
    evaluation=st.builds(
        EvaluationSection,
        judge=TEXTS,
        judge_endpoint=st.none() | TEXTS,
        judge_model=st.none() | TEXTS,
        calibration=st.none() | TEXTS,
        prompts=TEXTS,
        benign=st.none() | TEXTS,
        task=st.none() | TEXTS,
        task_columns=st.none() | TEXTS,
        task_match=st.sampled_from(["exact", "prefix", "last-number", "choice"]),
        max_new_tokens=COUNTS,
        max_thought_tokens=st.none() | COUNTS,
        system_prompt=st.none() | TEXTS.filter(str.strip),
        chat_template_kwargs=TEMPLATE_ARGUMENTS,
        samples=COUNTS,
        stop_early=st.booleans(),
        server=st.none() | TEXTS,
        seed=st.integers(-(2**62), 2**62),
    ),
    repair=st.builds(
        RepairSection,
        method=st.sampled_from(["antidote", "taylor"]),
        reference=st.none() | TEXTS,
        realignment=TEXTS,
        activation_megabytes=COUNTS,
        frontier=st.booleans(),
        accept=st.booleans(),
        keep_failed=st.booleans(),
    ),
    publish=st.builds(PublishSection, mode=st.just("repo"), to=TEXTS)
    | st.builds(PublishSection, mode=st.sampled_from(["none", "report", "pull-request", "branch"])),
    jobs=st.builds(
        JobsSection,
        image=st.none() | TEXTS,
        flavor=st.none() | TEXTS,
        timeout=st.sampled_from(["90m", "1.5h"]),
        namespace=st.none() | TEXTS,
    ),
)


@given(POLICIES)
@settings(max_examples=150, deadline=None)
def test_a_written_policy_is_read_back_unchanged(tmp_path_factory: pytest.TempPathFactory, written: Policy) -> None:
    """With any text: quotes, control characters, line breaks, other alphabets."""
    file = tmp_path_factory.getbasetemp() / "written.toml"
    file.write_text(to_toml(written), encoding="utf-8", newline="")
    read = read_policy(file)
    assert read == written
    assert read.sha256() == written.sha256()


def test_every_key_is_written() -> None:
    text = to_toml(Policy())
    for section in dataclasses.fields(Policy):
        assert f"[{section.name}]" in text
        for key, value in dataclasses.asdict(getattr(Policy(), section.name)).items():
            assert (f"\n{key} = " in text) == (value is not None)


def test_a_policy_with_a_value_for_every_key_is_read_back_unchanged(tmp_path: Path) -> None:
    """No key has its default, so one that is not written is not read back."""
    written = Policy(
        Gate(
            harmful_score=0.2,
            over_refusal=0.3,
            degenerate=0.4,
            degenerate_rise=0.06,
            utility_drop="report",
            baseline="before/report.json",
            regression=0.07,
            on_inconclusive="repair",
        ),
        EvaluationSection(
            judge="endpoint,refusal",
            judge_endpoint="https://judge.example/v1",
            judge_model="guard",
            calibration="calibration.json",
            prompts="embedded",
            benign="benign.jsonl",
            task=f"org/dataset@{'a' * 40}:test.jsonl",
            task_columns="question,answer",
            task_match="last-number",
            max_new_tokens=96,
            max_thought_tokens=512,
            system_prompt='Say "yes" \\ or\nno.',
            chat_template_kwargs={"enable_thinking": False, "level": 3, "share": 0.5, "tone": 'a "b" = {c}\n'},
            samples=2,
            stop_early=False,
            server="serve {model} --port={port}",
            seed=-1,
        ),
        RepairSection(
            method="antidote",
            reference="org/base",
            realignment="embedded",
            activation_megabytes=8,
            frontier=True,
            accept=True,
            keep_failed=True,
        ),
        PublishSection(mode="repo", to="org/repaired"),
        JobsSection(image="ghcr.io/org/image", flavor="l4x1", timeout="90m", namespace="org"),
    )
    for section in dataclasses.fields(Policy):
        defaults = getattr(Policy(), section.name)
        for key, value in dataclasses.asdict(getattr(written, section.name)).items():
            assert value != getattr(defaults, key), key
    assert policy(tmp_path, to_toml(written)) == written
