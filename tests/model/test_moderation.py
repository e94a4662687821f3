"""Moderation scores do not depend on the batch and equal those of transformers."""

import math
from pathlib import Path

import pytest

from antidote_ci.model.moderation import ModerationRequest, classify_texts
from tests.builders import ignore
from tests.evaluation.judges.tiny_judges import write_tiny_beaver_dam

TEXTS = ["Boil it.", "Boil it for eight minutes, then put it into cold water.", "", "Fry it in butter. " * 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_beaver_dam(tmp_path_factory.mktemp("judges") / "beaver")


def scores(folder: Path, texts: list[str], window: int = 512) -> list[list[float | None]]:
    return classify_texts(ModerationRequest(folder, texts, window), ignore)


def test_scores_do_not_depend_on_the_batch(folder: Path) -> None:
    """Nor on padding. The order is kept, and a repeated text has the same scores."""
    batch_scores = scores(folder, [*TEXTS, TEXTS[0]])
    assert batch_scores[-1] == batch_scores[0]
    for text, text_scores in zip(TEXTS, batch_scores, strict=False):
        # In bfloat16, results differ slightly between batch shapes.
        assert text_scores == pytest.approx(scores(folder, [text])[0], abs=5e-3)


def test_scores_equal_those_of_transformers(folder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSequenceClassification.from_pretrained(folder)
    rows = tokenizer(TEXTS[1] + tokenizer.eos_token, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = torch.sigmoid(network(input_ids=rows).logits)[0].tolist()
    [text_scores] = scores(folder, [TEXTS[1]])
    assert len(text_scores) == 14
    assert text_scores == pytest.approx(expected, abs=1e-2)


def test_text_beyond_the_window_is_ignored(folder: Path) -> None:
    assert scores(folder, ["abcdefgh" + "x"], window=8) == scores(folder, ["abcdefgh" + "y"], window=8)
    assert scores(folder, ["abcdefgh" + "x"]) != scores(folder, ["abcdefgh" + "y"])


def test_score_that_is_not_finite_is_none(folder: Path, tmp_path: Path) -> None:
    broken = write_tiny_beaver_dam(tmp_path / "broken", scale=math.nan)
    assert scores(broken, TEXTS[:1]) == [[None] * 14]
