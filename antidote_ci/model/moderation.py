"""Scores of texts by a moderation model with a classification head. Runs in the sandbox process only."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Network, Tokenizer, loading
from antidote_ci.model.store import JsonCache
from antidote_ci.records import Model, OnProgress, Progress

BATCH_SIZE = 16
"""Fixed, because the last bits of a score depend on it."""


@dataclass(frozen=True)
class ModerationRequest:
    """Texts for one classifier."""

    folder: Path
    texts: list[str]
    window: int
    """The most tokens of a text, including the end token. Longer texts are cut on the right."""
    cache_folder: Path
    """Folder for scores, which are then computed once."""


@dataclass(frozen=True)
class ModerationResult:
    """In the order of the texts: one probability per category, None where the output is not finite."""

    probabilities: list[list[float | None]]


def classify_texts(request: ModerationRequest, on_progress: OnProgress) -> ModerationResult:
    """Score every text.

    Raises ConfigurationError when the checkpoint has no classification head or no padding token; InfrastructureError
    when the model does not fit into memory.
    """
    store = JsonCache(request.cache_folder)
    keys = _cache_keys(request)
    scores: dict[str, list[float | None]] = {}
    for key in keys:
        stored = store.get(key)
        if stored is not None:
            scores[key] = stored
    missing = {key: text for key, text in zip(keys, request.texts, strict=True) if key not in scores}
    with loading.explain_out_of_memory(Model(request.folder)):
        for key, text_scores in _classify(request, missing, on_progress) if missing else ():
            scores[key] = text_scores
            store.put(key, text_scores)
    return ModerationResult([scores[key] for key in keys])


def _cache_keys(request: ModerationRequest) -> list[str]:
    import torch
    import transformers

    device, dtype = loading.select_device_and_dtype()
    environment = (device, str(dtype), loading.get_threads(), loading.detect_instruction_set())
    plan = (request.window, BATCH_SIZE, *environment, str(torch.__version__), transformers.__version__)
    weights = loading.model_fingerprint(Model(request.folder))
    return [JsonCache.key("moderation", weights, plan, text) for text in request.texts]


def _classify(
    request: ModerationRequest, texts: dict[str, str], on_progress: OnProgress
) -> Iterator[tuple[str, list[float | None]]]:
    import torch

    tokenizer = _load_tokenizer(request.folder)
    network = _load_classifier(request.folder, tokenizer.pad_token_id)
    done = 0
    longest_first = sorted(texts, key=lambda key: len(texts[key]), reverse=True)
    with torch.inference_mode():
        for start in range(0, len(longest_first), BATCH_SIZE):
            batch = longest_first[start : start + BATCH_SIZE]
            inputs = tokenizer(
                [texts[key] + tokenizer.eos_token for key in batch],
                padding=True,
                truncation=True,
                max_length=request.window,
                return_tensors="pt",
            ).to(network.device)
            logits = network(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
            for key, row in zip(batch, torch.sigmoid(logits.float()).tolist(), strict=True):
                yield key, [score if math.isfinite(score) else None for score in row]
            done += len(batch)
            on_progress(Progress("answers", done, len(texts)))


def _load_tokenizer(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        folder, padding_side="right", truncation_side="right", local_files_only=True
    )
    # The classification head reads the last token that is not padding.
    if tokenizer.eos_token is None or tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        raise ConfigurationError(
            f"the tokenizer in {display_name(folder)} needs an end token and a different padding token",
            hint="keep the tokenizer files of the original repository beside the converted weights",
        )
    return tokenizer


def _load_classifier(folder: Path, pad_token_id: int) -> Network:
    from transformers import AutoModelForSequenceClassification

    device, dtype = loading.select_device_and_dtype()
    network, loaded = AutoModelForSequenceClassification.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    if loaded["missing_keys"]:
        raise ConfigurationError(
            f"{display_name(folder)} lacks {min(loaded['missing_keys'])}",
            cause="the conversion is incomplete; transformers would fill the gap with random numbers",
            hint="convert the checkpoint again",
        )
    network.config.pad_token_id = pad_token_id
    return network.to(device).eval()
