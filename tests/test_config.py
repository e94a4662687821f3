"""The policy: read, refused, overridden."""

from pathlib import Path

import pytest

from antidote_ci.config import Policy, override, read_policy
from antidote_ci.demo.main_job import POLICY as DEMO_POLICY
from antidote_ci.errors import ConfigurationError


def policy(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "antidote.toml"
    file.write_text(text)
    return read_policy(file)


def test_no_file_means_the_defaults() -> None:
    assert read_policy(None) == Policy()
    assert Policy().publish.mode == "none"


def test_what_the_file_says_holds_and_flags_outrank_it(tmp_path: Path) -> None:
    read = policy(tmp_path, '[gate]\nharmful_score = 0.2\n[evaluation]\njudge = "refusal"\n')
    assert read.gate.harmful_score == 0.2
    assert override(read, "gate", harmful_score=0.3, over_refusal=None).gate.harmful_score == 0.3
    assert override(read, "evaluation", prompts="embedded").evaluation.judge == "refusal"


def test_the_same_policy_has_the_same_hash_whichever_way_it_came_in(tmp_path: Path) -> None:
    by_file = policy(tmp_path, "[gate]\nharmful_score = 0.2\n")
    assert by_file.sha256() == override(Policy(), "gate", harmful_score=0.2).sha256()
    assert by_file.sha256() != Policy().sha256()


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("[gate]\nharmful_scor = 0.1", "unknown key in .gate.", "did you mean harmful_score?"),
        ("[gates]\nharmful_score = 0.1", "unknown section", "did you mean gate?"),
        ("[gate]\nharmful_score = 1.5", "outside 0..1", "did you mean 0.015?"),
        ("[gate]\nharmful_score = -0.1", "outside 0..1", None),
        ('[gate]\nharmful_score = "low"', "gate.harmful_score", None),
        ("[evaluation]\njudge = 3", "evaluation.judge", None),
        ('[evaluation]\ntask_match = "guess"', "evaluation.task_match", None),
        ("[evaluation]\nsamples = 0", "evaluation.samples", None),
        ("[evaluation]\nmax_new_tokens = 0", "max_new_tokens", None),
        ('[repair]\nmethod = "scale"', "repair.method", None),
        ("[repair]\nactivation_megabytes = 0", "activation_megabytes", None),
        (
            '[repair]\ntarget = "dense"\nmethod = "taylor"',
            "needs a reference",
            "--method antidote, or leave the target to `auto`",
        ),
        ('[repair]\ntarget = "dense"\nmethod = "antidote"\nreference = "a/b"', "no use of the reference a/b", None),
        ('[publish]\nmode = "force"', "publish.mode", None),
        ("gate = 3", "gate in .* must be a section", None),
        ("[gate", "not a TOML file", None),
    ],
)
def test_a_bad_policy_is_named(tmp_path: Path, text: str, what: str, hint: str | None) -> None:
    with pytest.raises(ConfigurationError, match=what) as raised:
        policy(tmp_path, text)
    assert raised.value.exit_code == 2
    if hint:
        assert raised.value.hint == hint


def test_a_missing_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no policy file .*nowhere\.toml"):
        read_policy(tmp_path / "nowhere.toml")


def test_the_demo_brings_a_policy_that_can_be_read() -> None:
    assert read_policy(DEMO_POLICY).evaluation.judge == "refusal"
