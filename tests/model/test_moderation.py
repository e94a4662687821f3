"""The classification head: the same scores in every batch, from the last token that fits."""

import math
from pathlib import Path

import pytest

from antidote_ci.model.moderation import ModerationRequest, classify_texts
from antidote_ci.records import Progress
from tests.builders import empty_store
from tests.evaluation.judges.tiny_judges import write_tiny_beaver_dam

TEXTS = ["Boil it.", "Boil it for eight minutes, then put it into cold water.", "", "Fry it in butter. " * 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_beaver_dam(tmp_path_factory.mktemp("judges") / "beaver")


def scores(folder: Path, texts: list[str], window: int = 512) -> list[list[float | None]]:
    return classify_texts(ModerationRequest(folder, texts, window, empty_store()), lambda _: None).probabilities


def test_scores_are_those_of_each_text_alone(folder: Path) -> None:
    """Padding counts for nothing, order is kept, and a text that stands twice is scored once."""
    together = scores(folder, [*TEXTS, TEXTS[0]])
    assert together[-1] == together[0]
    for text, found in zip(TEXTS, together, strict=False):
        # bfloat16 rounds each batch shape in its own way.
        assert found == pytest.approx(scores(folder, [text])[0], abs=5e-3)


def test_scores_are_the_frameworks_own(folder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSequenceClassification.from_pretrained(folder)
    rows = tokenizer(TEXTS[1] + tokenizer.eos_token, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = torch.sigmoid(network(input_ids=rows).logits)[0].tolist()
    [found] = scores(folder, [TEXTS[1]])
    assert len(found) == 14
    assert found == pytest.approx(expected, abs=1e-2)


def test_nothing_beyond_the_window_is_read(folder: Path) -> None:
    assert scores(folder, ["abcdefgh" + "x"], window=8) == scores(folder, ["abcdefgh" + "y"], window=8)
    assert scores(folder, ["abcdefgh" + "x"]) != scores(folder, ["abcdefgh" + "y"])


def test_what_is_no_number_is_none(folder: Path, tmp_path: Path) -> None:
    broken = write_tiny_beaver_dam(tmp_path / "broken", scale=math.nan)
    assert scores(broken, TEXTS[:1]) == [[None] * 14]


def test_progress_ends_with_all(folder: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    request = ModerationRequest(folder, TEXTS, 512, tmp_path / "store")
    first = classify_texts(request, seen.append)
    assert (seen[-1].done, seen[-1].total) == (len(TEXTS), len(TEXTS))
    assert classify_texts(request, seen.append) == first
