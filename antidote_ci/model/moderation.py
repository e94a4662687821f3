"""Texts scored by a classification head: one probability a category, from the last token. In the child process only."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import loading
from antidote_ci.model.store import JsonCache
from antidote_ci.records import Model, OnProgress, Progress

BATCH_SIZE = 16
"""Fixed, so that the same request gives the same bits."""


@dataclass(frozen=True)
class ModerationRequest:
    """Texts for one classifier."""

    folder: Path
    texts: list[str]
    window: int
    """Tokens it reads of each text, the end token among them; the rest is cut off on the right."""
    cache_folder: Path
    """Folder of results that are never asked for twice."""


@dataclass(frozen=True)
class ModerationResult:
    """In the order of the texts: a probability a category, None where the network gave no number."""

    probabilities: list[list[float | None]]


def classify_texts(request: ModerationRequest, report: OnProgress) -> ModerationResult:
    """Score every text.

    Raises ConfigurationError for a checkpoint without its head or padding token, InfrastructureError when it does not
    fit into memory.
    """
    store = JsonCache(request.cache_folder)
    keys = _cache_keys(request)
    found: dict[str, list[float | None]] = {}
    for key in keys:
        known = store.get(key)
        if known is not None:
            found[key] = known
    missing = {key: text for key, text in zip(keys, request.texts, strict=True) if key not in found}
    try:
        for key, scores in _classify(request, missing, report) if missing else ():
            found[key] = scores
            store.put(key, scores)
    except (MemoryError, RuntimeError) as error:
        if not loading.is_out_of_memory(error):
            raise
        raise loading.does_not_fit_error(Model(request.folder)) from error
    return ModerationResult([found[key] for key in keys])


def _cache_keys(request: ModerationRequest) -> list[str]:
    import torch
    import transformers

    device, dtype = loading.select_device_and_dtype()
    versions = (str(torch.__version__), transformers.__version__)
    plan = (
        request.window,
        BATCH_SIZE,
        device,
        str(dtype),
        loading.get_threads(),
        loading.detect_instruction_set(),
        *versions,
    )
    weights = loading.model_fingerprint(Model(request.folder))
    return [JsonCache.key("moderation", weights, plan, text) for text in request.texts]


def _classify(
    request: ModerationRequest, texts: dict[str, str], report: OnProgress
) -> Iterator[tuple[str, list[float | None]]]:
    import torch

    tokenizer = _load_tokenizer(request.folder)
    network = _load_classifier(request.folder, tokenizer.pad_token_id)
    done = 0
    longest_first = sorted(texts, key=lambda key: len(texts[key]), reverse=True)
    with torch.inference_mode():
        for start in range(0, len(longest_first), BATCH_SIZE):
            batch = longest_first[start : start + BATCH_SIZE]
            rows = tokenizer(
                [texts[key] + tokenizer.eos_token for key in batch],
                padding=True,
                truncation=True,
                max_length=request.window,
                return_tensors="pt",
            ).to(network.device)
            logits = network(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).logits
            for key, row in zip(batch, torch.sigmoid(logits.float()).tolist(), strict=True):
                yield key, [each if math.isfinite(each) else None for each in row]
            done += len(batch)
            report(Progress("answers", done, len(texts)))


def _load_tokenizer(folder: Path) -> Any:  # noqa: ANN401 - transformers is untyped
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        folder, padding_side="right", truncation_side="right", local_files_only=True
    )
    # The head reads the last token that is no padding.
    if tokenizer.eos_token is None or tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        raise ConfigurationError(
            f"the tokenizer in {display_name(folder)} needs an end token and a padding token of its own",
            hint="keep the tokenizer files of the original repository beside the converted weights",
        )
    return tokenizer


def _load_classifier(folder: Path, pad_token_id: int) -> Any:  # noqa: ANN401 - transformers is untyped
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
            cause="the framework would fill it with random numbers, and judge by them",
            hint="convert the checkpoint again, whole",
        )
    network.config.pad_token_id = pad_token_id
    return network.to(device).eval()
