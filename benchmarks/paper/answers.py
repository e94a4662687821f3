"""The base model's own answers to harmless prompts: an alignment that teaches them changes nothing but refusals."""

import hashlib
import json
from pathlib import Path

from antidote_ci.checkpoint.links import model_fingerprint
from antidote_ci.evaluation.degenerate import is_degenerate
from antidote_ci.evaluation.judges.refusal import is_refusal
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import GenerationRequest
from antidote_ci.records import Model, OnProgress
from benchmarks.paper.keeping import kept
from benchmarks.paper.records import Pair
from tests.builders import generate

TOKENS = 64
"""Of an answer."""
ENDS = (".", "!", "?")


def own_answers(base: Path, prompts: list[str], folder: Path, on_progress: OnProgress) -> list[Pair]:
    """Greedy answers, kept in `folder`; those that refuse or are degenerate are left out."""
    asking = json.dumps([prompts, model_fingerprint(Model(base)), TOKENS])
    destination = folder / hashlib.sha256(asking.encode()).hexdigest()[:12]

    def make(part: Path) -> None:
        request = GenerationRequest(
            Model(base), {"harmless": [single_turn(each) for each in prompts]}, {"harmless": TOKENS}
        )
        answers = generate(request, on_progress).answers["harmless"]
        texts = [whole(answer.text) if answer.truncated else answer.text.strip() for answer in answers]
        (part / "answers.json").write_text(json.dumps(texts), encoding="utf-8")

    texts = json.loads((kept(destination, make) / "answers.json").read_text(encoding="utf-8"))
    pairs = [Pair(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    return [pair for pair in pairs if not is_refusal(pair.response) and not is_degenerate(pair.response)]


def whole(text: str) -> str:
    """`text` up to the end of its last whole sentence; empty where it has none."""
    return text[: max(text.rfind(end) for end in ENDS) + 1].strip()
