"""Calibration of a judge with human labels."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.calibration import measure_judge, read_calibration, read_labels
from antidote_ci.evaluation.judges import Exchange, JudgeVerdict, Verdict
from antidote_ci.evaluation.judges.refusal import RefusalJudge
from antidote_ci.evaluation.statistics import exact_bounds
from antidote_ci.records import JudgeIdentity, Measure, OnProgress, to_json
from tests.builders import ignore

HARM = JudgeIdentity("word", "harmful_score", "a/judge", "0" * 40, "by words")


@dataclass(frozen=True)
class WordJudge:
    """Returns the first word of each answer as its verdict."""

    identity: JudgeIdentity = HARM

    def judge(self, exchanges: Sequence[Exchange], on_progress: OnProgress) -> list[JudgeVerdict]:  # noqa: ARG002 - too quick
        return [JudgeVerdict(_verdict(exchange.answer)) for exchange in exchanges]


def _verdict(answer: str) -> Verdict:
    word = answer.partition(" ")[0]
    return "harmful" if word == "harmful" else "safe" if word == "safe" else "unparsed"


def write(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["harmful", "safe", "?"])), min_size=1, max_size=60))
def test_sensitivity_and_specificity_match_the_counts(pairs: list[tuple[bool, str]]) -> None:
    pairs = [*pairs, (True, "harmful"), (False, "safe")]
    with TemporaryDirectory() as folder:
        rows = [{"prompt": f"{n}", "response": said, "label": int(truth)} for n, (truth, said) in enumerate(pairs)]
        path = write(Path(folder) / "labels.jsonl", rows)
        result = measure_judge(WordJudge(), read_labels(path), path, ignore)
    positives = [said for truth, said in pairs if truth]
    negatives = [said for truth, said in pairs if not truth]
    assert result.n == len(pairs)
    assert result.unparsed == [said for _, said in pairs].count("?")
    assert result.sensitivity == result.positives.share == positives.count("harmful") / len(positives)
    assert result.specificity == result.negatives.share == sum(map("harmful".__ne__, negatives)) / len(negatives)
    assert result.positives.bounds == exact_bounds(positives.count("harmful"), len(positives))
    assert result.balanced_accuracy == pytest.approx((result.sensitivity + result.specificity) / 2)


@pytest.mark.parametrize(
    ("label", "kind", "harmful", "refused"),
    [
        ("1_full_compliance", "homonyms", False, False),
        ("1_full_compliance", "contrast_homonyms", True, False),
        ("2_full_refusal", "contrast_homonyms", False, True),
        ("3_partial_refusal", "contrast_homonyms", False, True),
        ("harmful", "", True, None),
        ("Unsafe", "", True, None),
        (True, "", True, None),
        (1, "", True, None),
        ("safe", "", False, None),
        (False, "", False, None),
        (0, "", False, None),
        ("refused", "", False, True),
        ("complied", "", None, False),
    ],
)
def test_labels_are_parsed(
    tmp_path: Path, label: object, kind: str, harmful: bool | None, refused: bool | None
) -> None:
    row = {"prompt": "How?", "completion": "So.", "label": label, "type": kind}
    [result] = read_labels(write(tmp_path / "labels.jsonl", [row]))
    assert (result.harmful, result.refused, result.category) == (harmful, refused, kind)
    assert result.exchange == Exchange("How?", "So.")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"response": "So.", "label": "safe"}, "field 'prompt'"),
        ({"prompt": " ", "response": "So.", "label": "safe"}, "field 'prompt'"),
        ({"prompt": "How?", "label": "safe"}, "field 'response'"),
        ({"prompt": "How?", "response": 3, "label": "safe"}, "field 'response'"),
        ({"prompt": "How?", "response": "So."}, "field 'label'"),
        ({"prompt": "How?", "response": "So.", "label": "perhaps"}, "field 'label'"),
        (["a list"], "field 'prompt'"),
    ],
)
def test_invalid_label_row_error_names_the_line(tmp_path: Path, row: object, message: str) -> None:
    good = {"prompt": "How?", "response": "", "label": "safe"}
    with pytest.raises(ConfigurationError, match=rf"labels\.jsonl, line 2 .*{message}") as raised:
        read_labels(write(tmp_path / "labels.jsonl", [good, row]))
    assert '"label": "harmful"' in str(raised.value.hint)


def test_label_file_is_read_as_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    row = json.dumps({"prompt": "How?", "response": "So.", "label": "safe", "category": "one\ntwo"})
    file.write_bytes(b"\xef\xbb\xbf" + row.encode() + b"\r\n")
    assert [row.category for row in read_labels(file)] == ["one two"]
    file.write_text(f'{row}\n{{"prompt": "How?", "response": "So.", "label": {"1" * 5000}}}')
    with pytest.raises(ConfigurationError, match="line 2 is not JSON"):
        read_labels(file)
    for field in ("prompt", "response"):
        cut = {"prompt": "How?", "response": "So.", "label": "safe"} | {field: "\ud800"}
        with pytest.raises(ConfigurationError, match=f"line 1 has an unpaired surrogate in the field '{field}'"):
            read_labels(write(file, [cut]))


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1), st.integers(1, 5))
def test_repeated_exchanges_count_once(answers: list[str], times: int) -> None:
    with TemporaryDirectory() as folder:
        rows = [{"prompt": "How?", "response": answer, "label": "safe"} for answer in answers * times]
        result = read_labels(write(Path(folder) / "labels.jsonl", rows))
    assert [row.exchange.answer for row in result] == list(dict.fromkeys(answers))


def test_contradictory_labels_are_refused(tmp_path: Path) -> None:
    rows = [{"prompt": "How?", "response": "So.", "label": label} for label in ("unsafe", "harmful", "safe")]
    with pytest.raises(
        ConfigurationError, match=r"line 3 has the same prompt .*labels\.jsonl, line 1, but another label"
    ):
        read_labels(write(tmp_path / "labels.jsonl", rows))


def test_empty_or_invalid_file_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"\n\n", b"\xff\xfe", b"{"):
        (tmp_path / "labels.jsonl").write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"labels\.jsonl"):
            read_labels(tmp_path / "labels.jsonl")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_labels(tmp_path / "nowhere")


def test_rates_by_category(tmp_path: Path) -> None:
    rows = [
        {"prompt": "1", "response": "harmful", "label": "harmful", "category": "a"},
        {"prompt": "2", "response": "safe", "label": "harmful", "category": "b"},
        {"prompt": "3", "response": "safe", "label": "safe", "category": "b"},
    ]
    path = write(tmp_path / "labels.jsonl", rows)
    result = measure_judge(WordJudge(), read_labels(path), path, ignore).categories
    a, b = result["a"], result["b"]
    assert a[0] is not None
    assert (a[0].share, a[1]) == (1.0, None)
    assert b[0] is not None
    assert b[1] is not None
    assert (b[0].share, b[1].share) == (0.0, 1.0)


def test_rule_judge_is_calibrated_on_refusals(tmp_path: Path) -> None:
    rows = [
        {"prompt": "1", "response": "I'm sorry, but I can't help with that.", "label": "refused"},
        {"prompt": "2", "response": "Sure, here is how to do that.", "label": "complied"},
        {"prompt": "3", "response": "Sure, here is how.", "label": "1_full_compliance", "type": "homonyms"},
    ]
    path = write(tmp_path / "labels.jsonl", rows)
    result = measure_judge(RefusalJudge(), read_labels(path), path, ignore)
    assert (result.positives.n, result.negatives.n) == (2, 1)
    assert (result.sensitivity, result.specificity) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("measure", "label"), [("non_refusal_rate", "safe"), ("non_refusal_rate", "harmful"), ("harmful_score", "complied")]
)
def test_label_of_another_measure_is_refused(tmp_path: Path, measure: Measure, label: str) -> None:
    path = write(tmp_path / "labels.jsonl", [{"prompt": "How?", "response": "So.", "label": label}])
    with pytest.raises(ConfigurationError, match="line 1 does not tell"):
        measure_judge(WordJudge(replace(HARM, measure=measure)), read_labels(path), path, ignore)


@pytest.mark.parametrize("label", ["safe", "harmful"])
def test_equal_labels_are_refused(tmp_path: Path, label: str) -> None:
    path = write(tmp_path / "labels.jsonl", [{"prompt": "How?", "response": "So.", "label": label}])
    with pytest.raises(ConfigurationError, match=r"has no (positive|negative) answer"):
        measure_judge(WordJudge(), read_labels(path), path, ignore)


def test_calibration_of_another_judge_is_refused(tmp_path: Path) -> None:
    labels = write(
        tmp_path / "labels.jsonl",
        [{"prompt": text, "response": text, "label": text} for text in ("harmful", "safe")],
    )
    result = measure_judge(WordJudge(), read_labels(labels), labels, ignore)
    saved = tmp_path / "calibration.json"
    saved.write_text(to_json(result))
    assert read_calibration(saved, HARM) == result
    assert {"sensitivity", "specificity", "n"} <= json.loads(saved.read_text()).keys()
    for other in (
        replace(HARM, name="another"),
        replace(HARM, revision="1" * 40),
        replace(HARM, detail="another rubric"),
        replace(HARM, measure="non_refusal_rate"),
    ):
        with pytest.raises(ConfigurationError, match="is the calibration of another judge"):
            read_calibration(saved, other)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"sensitivity": 1}'])
def test_invalid_calibration_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(ConfigurationError, match="is not a calibration"):
        read_calibration(tmp_path / "calibration.json", HARM)
    with pytest.raises(ConfigurationError, match="there is no calibration"):
        read_calibration(tmp_path / "nowhere.json", HARM)
