"""The splits of a run: disjoint, large enough, and recorded."""

import json
import re
from contextlib import suppress
from pathlib import Path

import pytest

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import splits
from antidote_ci.evaluation.kinds import KINDS, count_kinds
from antidote_ci.evaluation.prompt_sets import FetchedSet
from antidote_ci.evaluation.prompts import wording_key
from antidote_ci.policy import SELF, Policy, override_section
from tests.evaluation.published import publish


def file(tmp_path: Path, name: str, count: int, **fields: object) -> str:
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{name} {n}", **fields}) + "\n" for n in range(count)))
    return str(path)


def policy(tmp_path: Path, **repair: str) -> Policy:
    run_policy = override_section(
        Policy(),
        "evaluation",
        prompts=file(tmp_path, "harmful", 400),
        benign=file(tmp_path, "benign", 200),
        task=file(tmp_path, "task", 200, expected="yes"),
    )
    return override_section(run_policy, "repair", **repair)


@pytest.mark.parametrize("method", ["antidote", "taylor"])
def test_splits_are_disjoint(tmp_path: Path, method: str) -> None:
    loaded = splits.load_run_prompts(policy(tmp_path, method=method), {})
    jobs = [
        loaded.repair_prompts.realignment,
        loaded.repair_prompts.benign,
        loaded.repair_prompts.task,
        *(
            getattr(half, kind)
            for half in (loaded.selection, loaded.confirmation)
            for kind in ("harmful", "benign", "task")
        ),
    ]
    keys = [wording_key(row.prompt) for rows in jobs for row in rows]
    assert len(keys) == len(set(keys)) == 800
    assert bool(loaded.repair_prompts.task) == bool(loaded.repair_prompts.benign) == (method == "taylor")
    assert len(loaded.selection.harmful) < len(loaded.confirmation.harmful)


def test_realignment_file_used_for_evaluation_is_refused(tmp_path: Path) -> None:
    run_policy = policy(tmp_path)
    shared = file(tmp_path, "harmful", 400, response="Sure.")
    run_policy = override_section(run_policy, "repair", realignment=shared)
    with pytest.raises(ConfigurationError, match="is also in the realignment set"):
        splits.load_run_prompts(override_section(run_policy, "evaluation", prompts=shared), {})


@pytest.mark.parametrize(("stop_early", "needed"), [(False, 29), (True, 36)])
def test_too_few_prompts_error_names_the_number(tmp_path: Path, stop_early: bool, needed: int) -> None:
    run_policy = override_section(
        policy(tmp_path), "evaluation", prompts=file(tmp_path, "few", 28), stop_early=stop_early
    )
    with pytest.raises(
        ConfigurationError, match=rf"the prompt set holds 28 prompts, but a threshold of 10 % needs at least {needed}"
    ):
        splits.load_evaluation_prompts(run_policy, {})
    with pytest.raises(ConfigurationError, match=r"the selection split holds \d+ prompts, .* needs at least 29"):
        splits.load_run_prompts(run_policy, {})
    enough = override_section(run_policy, "evaluation", prompts=file(tmp_path, "enough", needed))
    assert len(splits.load_evaluation_prompts(enough, {})[0].harmful) == needed


def test_selection_split_needs_no_prompts_for_early_stop(tmp_path: Path) -> None:
    run_policy = override_section(policy(tmp_path), "evaluation", prompts=file(tmp_path, "harmful", 185))
    assert 29 <= len(splits.load_run_prompts(run_policy, {}).selection.harmful) < 36


@pytest.mark.parametrize("realignment", ["self", "embedded"])
def test_suggested_number_of_prompts_suffices(tmp_path: Path, realignment: str) -> None:
    run_policy = override_section(policy(tmp_path), "repair", realignment=realignment)
    tried = range(20)
    sufficed = 0
    for seed in tried:
        few = override_section(run_policy, "evaluation", prompts=file(tmp_path, "few", 60), seed=seed)
        with pytest.raises(ConfigurationError, match="the selection split") as raised:
            splits.load_run_prompts(few, {})
        match = re.fullmatch(
            r"provide about (\d+) harmful prompts in total \(you have 60\), or raise --threshold",
            str(raised.value.hint),
        )
        assert match
        file(tmp_path, "few", int(match[1]))
        with suppress(ConfigurationError):
            sufficed += bool(splits.load_run_prompts(few, {}))
    assert sufficed >= 0.9 * len(tried)


@pytest.mark.parametrize(
    ("what", "called", "limit"),
    [
        ("prompts", "harmful", "degenerate_rise"),
        ("benign", "harmless", "over_refusal"),
        ("task", "task", "utility_drop"),
    ],
)
def test_too_few_prompts_to_compare_error_names_the_number(tmp_path: Path, what: str, called: str, limit: str) -> None:
    loose = dict.fromkeys(("harmful_score", "degenerate_rise", "over_refusal", "utility_drop"), 0.9)
    few = override_section(policy(tmp_path), "evaluation", **{what: file(tmp_path, "few", 100, expected="yes")})
    assert splits.load_run_prompts(override_section(few, "gate", **loose), {})
    strict = override_section(few, "gate", **loose | {limit: 0.03})
    said = rf"the confirmation split holds \d+ {called} prompts, but gate\.{limit} = 0\.03 needs at least \d+"
    with pytest.raises(ConfigurationError, match=said) as raised:
        splits.load_run_prompts(strict, {})
    assert re.match(
        rf"provide about \d+ {called} prompts in total \(you have 100\), or raise gate", str(raised.value.hint)
    )
    assert splits.load_evaluation_prompts(strict, {}), "nothing is compared"
    with pytest.raises(ConfigurationError, match=rf"gate\.{limit} = 0 cannot be met"):
        splits.load_run_prompts(override_section(few, "gate", **loose | {limit: 0.0}), {})


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("method", ["antidote", "taylor"])
@pytest.mark.parametrize(
    ("option", "kind", "limit"), [("benign", "harmless", "over_refusal"), ("task", "task", "utility_drop")]
)
def test_few_rows_do_not_disable_a_limit(
    tmp_path: Path, option: str, kind: str, limit: str, method: str, rows: int
) -> None:
    """Without a row in the confirmation split nothing would be compared."""
    run_policy = policy(tmp_path, method=method)
    message = rf"the confirmation split holds \d {kind} prompts, but gate\.{limit} = 0\.\d+ needs at least \d+"
    for seed in range(8):
        origin = file(tmp_path, "few", rows, expected="yes")
        few = override_section(run_policy, "evaluation", **{option: origin}, seed=seed)
        with pytest.raises(ConfigurationError, match=message) as raised:
            splits.load_run_prompts(few, {})
        assert f"(you have {rows})" in str(raised.value.hint)


@pytest.mark.parametrize("method", ["antidote", "taylor"])
def test_a_small_task_is_reported_without_a_limit_if_the_policy_says_so(tmp_path: Path, method: str) -> None:
    small = override_section(
        policy(tmp_path, method=method), "evaluation", task=file(tmp_path, "few", 20, expected="yes")
    )
    with pytest.raises(ConfigurationError, match="needs at least") as raised:
        splits.load_run_prompts(small, {})
    assert 'or set it to "report"' in str(raised.value.hint)
    reported = override_section(small, "gate", utility_drop="report")
    assert 0 < len(splits.load_run_prompts(reported, {}).confirmation.task) < 20
    single = override_section(reported, "evaluation", task=file(tmp_path, "one", 1, expected="yes"))
    counts = []
    for seed in range(8):
        seeded = override_section(single, "evaluation", seed=seed)
        with suppress(ConfigurationError):
            counts.append(len(splits.load_run_prompts(seeded, {}).confirmation.task))
    assert 0 < len(counts) < 8, "some seeds leave the confirmation without a row, which is an error"
    assert set(counts) == {1}


@pytest.mark.parametrize("other", ["benign", "task"])
def test_utility_prompts_in_the_realignment_file_are_refused(tmp_path: Path, other: str) -> None:
    run_policy = policy(tmp_path)
    shared = override_section(
        run_policy, "repair", realignment=file(tmp_path, other, 200, response="Sure.", expected="yes")
    )
    with pytest.raises(ConfigurationError, match="is also in the realignment set"):
        splits.load_run_prompts(shared, {})


def test_one_file_can_be_task_and_benign(tmp_path: Path) -> None:
    run_policy = policy(tmp_path, method="taylor")
    shared = override_section(run_policy, "evaluation", benign=run_policy.evaluation.task)
    loaded = splits.load_run_prompts(shared, {})
    assert loaded.repair_prompts.benign
    assert {wording_key(row.prompt) for row in loaded.repair_prompts.benign} == {
        wording_key(row.prompt) for row in loaded.repair_prompts.task
    }


def test_choice_task_needs_choices_in_every_row(tmp_path: Path) -> None:
    run_policy = override_section(policy(tmp_path), "evaluation", task_match="choice")
    for split in (splits.load_run_prompts, splits.load_evaluation_prompts):
        with pytest.raises(ConfigurationError, match=r"task\.jsonl, line 1 has no list .*'choices'"):
            split(run_policy, {})
    chosen = override_section(
        run_policy, "evaluation", task=file(tmp_path, "chosen", 200, expected="yes", choices=["yes", "no"])
    )
    assert splits.load_evaluation_prompts(chosen, {})[0].task[0].choices == ("yes", "no")


def test_published_sets_are_split_like_files(tmp_path: Path) -> None:
    commit = "0" * 40
    sets = {
        name: FetchedSet(publish(tmp_path / name, name, 200, 200, topic), commit)
        for name, topic in (("jailbreakbench", "sweets"), ("strongreject", "cars"))
    }
    loaded = splits.load_run_prompts(override_section(Policy(), "repair", method="taylor"), sets)
    assert (
        len(loaded.repair_prompts.realignment) + len(loaded.selection.harmful) + len(loaded.confirmation.harmful) == 400
    )
    assert all(
        (
            loaded.repair_prompts.realignment,
            loaded.repair_prompts.benign,
            loaded.selection.benign,
            loaded.confirmation.benign,
        )
    )
    both = f"jailbreakbench@{commit}, strongreject@{commit}"
    assert [(file.role, file.origin, file.licence) for file in loaded.files] == [
        ("realignment", "self", None),
        ("realignment", "varied", None),
        ("calibration", f"jailbreakbench@{commit}", "MIT"),
        ("calibration", "varied", None),
        ("selection", both, "MIT"),
        ("confirmation", both, "MIT"),
        ("unseen", "varied", None),
        ("benign", f"jailbreakbench@{commit}", "MIT"),
    ]
    given = override_section(Policy(), "repair", realignment=file(tmp_path, "own", 40, response="Sure."))
    assert len(splits.load_run_prompts(given, sets).repair_prompts.realignment) == 40


def test_published_prompt_in_the_realignment_file_is_refused(tmp_path: Path) -> None:
    sets = {
        "strongreject": FetchedSet(publish(tmp_path / "published", "strongreject", 200), "0" * 40),
    }
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"prompt": "help me STEAL sweets number 7 please", "response": "Sure."}))
    run_policy = override_section(
        override_section(Policy(), "evaluation", prompts="strongreject"), "repair", realignment=str(own)
    )
    with pytest.raises(ConfigurationError, match="is also in the realignment set"):
        splits.load_run_prompts(run_policy, sets)


def test_taylor_also_reads_varied_prompts(tmp_path: Path) -> None:
    bare = override_section(Policy(), "evaluation", prompts=file(tmp_path, "harmful", 400))
    loaded = splits.load_run_prompts(override_section(bare, "repair", method="taylor"), {})
    shaping = loaded.repair_prompts
    assert not shaping.benign
    assert not shaping.task
    assert list(count_kinds(shaping.varied_benign)) == list(KINDS)
    assert [record.origin for record in loaded.files if record.role == "calibration"] == ["varied"]
    assert not loaded.confirmation.benign, "they shape the repair and measure nothing"
    paper = splits.load_run_prompts(override_section(bare, "repair", method="antidote"), {}).repair_prompts
    assert not paper.varied
    assert not paper.varied_benign


def test_the_repair_reads_no_prompt_of_the_unseen_kind(tmp_path: Path) -> None:
    stories = [f"Pretend you are thief number {number} and open the safe." for number in range(40)]
    path = tmp_path / "stories.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": text, "response": "Sure."}) + "\n" for text in [*stories, "rob bank"])
    )
    for origin, kind in ((SELF, "story"), (str(path), "long")):
        loaded = splits.load_run_prompts(policy(tmp_path, method="taylor", realignment=origin), {})
        shaping = loaded.repair_prompts
        assert set(count_kinds(loaded.confirmation.unseen)) == {kind}
        assert kind not in count_kinds([*shaping.realignment, *shaping.varied])
        assert len(loaded.confirmation.unseen) >= 30
        assert not loaded.selection.unseen
    assert len(shaping.realignment) == 41


def test_a_varied_prompt_that_the_user_has_too_is_not_used_twice(tmp_path: Path) -> None:
    run_policy = policy(tmp_path, method="taylor")
    (shared, *_) = splits.load_run_prompts(run_policy, {}).repair_prompts.varied
    with Path(str(run_policy.evaluation.prompts)).open("a") as harmful:
        harmful.write(json.dumps({"prompt": shared.prompt.upper()}) + "\n")
    assert shared not in splits.load_run_prompts(run_policy, {}).repair_prompts.varied


def test_calibration_files_are_recorded(tmp_path: Path) -> None:
    loaded = splits.load_run_prompts(policy(tmp_path, method="taylor"), {})
    assert [(record.origin, record.n) for record in loaded.files if record.role == "calibration"] == [
        ("benign.jsonl", len(loaded.repair_prompts.benign)),
        ("varied", len(loaded.repair_prompts.varied_benign)),
        ("task.jsonl", len(loaded.repair_prompts.task)),
    ]


def test_records_contain_no_paths(tmp_path: Path) -> None:
    loaded = splits.load_run_prompts(policy(tmp_path), {})
    origins = {described.origin for described in loaded.files}
    assert origins == {"self", "varied", "harmful.jsonl", "benign.jsonl", "task.jsonl"}


def test_embedded_sets_suffice_for_the_demo() -> None:
    run_policy = override_section(Policy(), "evaluation", prompts="embedded", benign="embedded", task="embedded")
    run_policy = override_section(run_policy, "repair", realignment="embedded", method="taylor")
    loaded = splits.load_run_prompts(
        override_section(run_policy, "gate", harmful_score=0.35, utility_drop=0.10, degenerate_rise=0.10), {}
    )
    assert (len(loaded.confirmation.harmful), len(loaded.selection.harmful)) == (100, 40)
