"""Scores of texts by a moderation model with a classification head. Runs in the sandbox process only."""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Network, Tokenizer, loading
from antidote_ci.records import Model, OnProgress

BATCH_SIZE = 16
"""Fixed, because the last bits of a score depend on it."""


@dataclass(frozen=True)
class ModerationRequest:
    """At most BATCH_SIZE texts for one classifier."""

    folder: Path
    texts: list[str]
    window: int
    """The most tokens of a text, including the end token. Longer texts are cut on the right."""


def classify_texts(request: ModerationRequest, _on_progress: OnProgress) -> list[list[float | None]]:
    """For each text one probability per category, None where the output is not finite.

    Raises ConfigurationError when the checkpoint has no classification head or no padding token; InfrastructureError
    when the model does not fit into memory.
    """
    import torch

    with loading.explain_out_of_memory(Model(request.folder)), torch.inference_mode():
        tokenizer, network = _load_cached_classifier(request.folder)
        inputs = tokenizer(
            [text + tokenizer.eos_token for text in request.texts],
            padding=True,
            truncation=True,
            max_length=request.window,
            return_tensors="pt",
        ).to(network.device)
        logits = network(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        rows = torch.sigmoid(logits.float()).tolist()
    return [[score if math.isfinite(score) else None for score in row] for row in rows]


def describe_classifier(_request: ModerationRequest, _on_progress: OnProgress) -> list[str]:
    """What the last bits of a score depend on, besides the weights and the text."""
    import torch
    import transformers

    device, dtype = loading.select_device_and_dtype()
    hardware = loading.describe_gpu() or device
    environment = (hardware, str(dtype), str(loading.get_threads()), loading.detect_instruction_set())
    return [str(BATCH_SIZE), *environment, str(torch.__version__), transformers.__version__]


@functools.lru_cache(maxsize=1)
def _load_cached_classifier(folder: Path) -> tuple[Tokenizer, Network]:
    tokenizer = _load_tokenizer(folder)
    return tokenizer, _load_classifier(folder, tokenizer.pad_token_id)


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
