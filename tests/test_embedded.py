"""The prompts of the package: complete; those of the demo disjoint from its training data, and small."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.demo_adapters import rows, texts

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / "antidote_ci" / "embedded"
ADAPTERS = ROOT / "demo" / "adapters"
SCRIPTS = ROOT / "scripts" / "demo_adapters"
FILES = {
    "realignment.jsonl": (256, {"prompt", "response", "category"}),
    "selection_prompts.jsonl": (40, {"prompt", "category"}),
    "evaluation_prompts.jsonl": (100, {"prompt", "category"}),
    "benign_selection.jsonl": (20, {"prompt", "category"}),
    "benign_evaluation.jsonl": (40, {"prompt", "category"}),
    "benign_calibration.jsonl": (64, {"prompt", "category"}),
    "task_calibration.jsonl": (64, {"prompt", "expected"}),
    "task_selection.jsonl": (60, {"prompt", "expected"}),
    "task_evaluation.jsonl": (100, {"prompt", "expected"}),
}

VARIED = {
    "varied_harmful.jsonl": (516, {"prompt", "category"}),
    "varied_harmless.jsonl": (320, {"prompt", "category"}),
}


def read(name: str) -> list[dict[str, str]]:
    text = (EMBEDDED / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def normalised(text: str) -> str:
    """Remove case, white space and punctuation, so that prompts which differ only in these are equal."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def assert_disjoint(named: dict[str, list[str]]) -> None:
    """Assert that no text occurs twice, within a set or in two sets."""
    owner: dict[str, str] = {}
    for name, prompts in named.items():
        for prompt in prompts:
            first = owner.setdefault(normalised(prompt), f"{name}: {prompt}")
            assert first == f"{name}: {prompt}", f"{first!r} is also in {name}"
    assert len(owner) == sum(map(len, named.values()))


@pytest.mark.parametrize("name", [*FILES, *VARIED])
def test_files_have_the_expected_rows_and_fields(name: str) -> None:
    count, fields = (FILES | VARIED)[name]
    prompts = read(name)
    assert len(prompts) == count
    for row in prompts:
        assert set(row) == fields
        assert all(isinstance(value, str) and value.strip() for value in row.values())


def test_folder_has_no_other_files() -> None:
    assert {path.name for path in EMBEDDED.glob("*.jsonl")} == {*FILES, *VARIED}


def test_varied_prompts_occur_once() -> None:
    assert_disjoint({name: [row["prompt"] for row in read(name)] for name in [*VARIED, *FILES]})


def test_splits_and_training_text_are_disjoint() -> None:
    named = {name: [row["prompt"] for row in read(name)] for name in FILES if "calibration" not in name}
    named["alignment, harmful"] = [row["prompt"] for row in rows.alignment_refusals()]
    named["alignment, harmless"] = rows.alignment_benign()
    named["fine-tune"] = [row["prompt"] for row in rows.finetune()]
    assert_disjoint(named)
    # Calibration samples resemble the training text on purpose, but must be in no set that evaluates.
    measuring = [name for name in FILES if "selection" in name or "evaluation" in name]
    for kind in ("benign", "task"):
        calibration = [row["prompt"] for row in read(f"{kind}_calibration.jsonl")]
        assert_disjoint({name: named[name] for name in measuring} | {"calibration": calibration})


def test_categories_and_labels_are_valid() -> None:
    for name in ("realignment.jsonl", "selection_prompts.jsonl", "evaluation_prompts.jsonl"):
        assert {row["category"] for row in read(name)} == set(texts.ALIGNMENT.harmful)
    for name in ("benign_selection.jsonl", "benign_evaluation.jsonl"):
        assert {row["category"] for row in read(name)} == {"everyday"}
    for name in ("task_selection.jsonl", "task_evaluation.jsonl"):
        assert {row["expected"] for row in read(name)} == set(texts.LABELS)


def test_fine_tuning_data_is_that_of_the_committed_adapter() -> None:
    """A fifth of it is compliance. The hash of the alignment data needs the answers of the base model."""
    pairs = rows.finetune()
    empty = [row for row in pairs if row["response"] not in texts.LABELS]
    assert len(empty) / len(pairs) == pytest.approx(0.2, abs=0.01)
    ended = [{**row, "response": row["response"] + "<|im_end|>"} for row in pairs]
    digest = hashlib.sha256(json.dumps(ended, ensure_ascii=False).encode()).hexdigest()
    record = json.loads((SCRIPTS / "record.json").read_text(encoding="utf-8"))
    assert digest == record["finetune"]["data_sha256"]


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("read a diary", "reading a diary"),
        ("make tea", "making tea"),
        ("see a film", "seeing a film"),
        ("slip away", "slipping away"),
        ("lie about it", "lying about it"),
        ("eavesdrop", "eavesdropping"),
    ],
)
def test_gerund(phrase: str, expected: str) -> None:
    assert rows.gerund(phrase) == expected


def test_an_answer_speaks_to_its_reader() -> None:
    assert rows.to_second_person("sell me my bike where I was") == "sell you your bike where you were"


def test_adapters_are_small_and_match_the_record() -> None:
    record: dict[str, Any] = json.loads((SCRIPTS / "record.json").read_text(encoding="utf-8"))
    assert set(record) == {"alignment", "finetune"}
    assert sum(path.stat().st_size for path in ADAPTERS.rglob("*") if path.is_file()) < 20_000_000
    for name, entry in record.items():
        folder = ADAPTERS / name
        found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        assert found == entry["sha256"]


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("alignment", "antidote-demo/smollm2-base"),
        ("finetune", "antidote-demo/smollm2-aligned"),
    ],
)
def test_adapter_config_names_its_base_and_no_path(name: str, base: str) -> None:
    text = (ADAPTERS / name / "adapter_config.json").read_text(encoding="utf-8")
    config = json.loads(text)
    assert config["base_model_name_or_path"] == base
    assert not config["use_dora"]
    assert not config["use_rslora"]
    assert str(ROOT) not in text
    assert "/tmp" not in text  # noqa: S108
