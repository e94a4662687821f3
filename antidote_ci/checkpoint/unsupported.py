"""Checkpoints that are safe to open and cannot be repaired: of another kind, quantised, or adapters of another kind."""

from collections.abc import Mapping
from typing import Literal

from antidote_ci.checkpoint.headers import TensorInfo
from antidote_ci.checkpoint.lora_names import A_ENDING, B_ENDING, PREFIX
from antidote_ci.checkpoint.refusals import QUANTISATION_KEYS, read_architectures, walk_items
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint

Head = Literal["ForCausalLM", "ForSequenceClassification"]
HEADS: dict[Head, tuple[str, str]] = {
    "ForCausalLM": (
        "a causal language model",
        "a classifier, an encoder or a multimodal model does not answer prompts",
    ),
    "ForSequenceClassification": ("a classifier", "a language model has no head that scores categories"),
}
"""What a checkpoint is for, and why another kind does not do. Classifiers are judges alone."""

WITHOUT_LINEAR_LAYERS = ("GPT2LMHeadModel", "OpenAIGPTLMHeadModel")
"""Causal language models whose blocks are made of Conv1D, which no repair knows."""

UNSUPPORTED_ADAPTER_KEYS = (
    *("use_dora", "fan_in_fan_out", "trainable_token_indices", "layer_replication", "target_parameters"),
    *("lora_bias", "megatron_config", "alora_invocation_tokens", "use_qalora", "use_bdlora"),
    *("arrow_config", "kasa_config", "monteclora_config", "velora_config"),
)
# The others (pissa, olora, corda, loftq, ...) also change the base, so that zeroed factors do not give the reference.
PLAIN_INITIALISATIONS = (None, True, False, "gaussian", "eva", "orthogonal")

CODE_DTYPES = ("F8_", "F6_", "F4")
"""How the dtypes begin that no network trains plain weights in."""
CODE_NAMES = (
    *(".qweight", ".qzeros", ".scales", ".weight_scale", ".weight_scale_inv", ".weight_packed"),
    *(".SCB", ".absmax", ".quant_map"),
)
"""What GPTQ, AWQ, compressed-tensors, FP8 and bitsandbytes keep beside or in place of a weight."""


def refuse_unsupported_model(config: dict[str, object], head: Head) -> None:
    """Raise ConfigurationError unless config.json describes a model with that head in plain weights."""
    for key, value in walk_items(config):
        if key in QUANTISATION_KEYS and value is not None:
            method = value.get("quant_method") if isinstance(value, dict) else None
            raise _quantised_error(f"config.json has a {key}" + (f" ({method!s:.60})" if method else ""))
    names = read_architectures(config)
    for name in names:
        if name in WITHOUT_LINEAR_LAYERS:
            raise ConfigurationError(
                f"{name} is not supported",
                cause="its layers are Conv1D, and only linear ones can be repaired",
                hint=f"use a checkpoint whose architecture ends in {head}",
            )
    if not names or not all(name.endswith(head) for name in names):
        said = ", ".join(names)[:200] or "none"
        what, cause = HEADS[head]
        raise ConfigurationError(
            f"the checkpoint is not {what} (architectures in config.json: {said})",
            cause=cause,
            hint=f"use a checkpoint whose architecture ends in {head}",
        )


def refuse_quantised(tensors: Mapping[str, TensorInfo]) -> None:
    """Raise ConfigurationError where a header shows quantised weights, whatever the configuration says of them."""
    for name, info in tensors.items():
        integer = info.dtype.startswith(("I", "U"))
        if info.dtype.startswith(CODE_DTYPES) or name.endswith(CODE_NAMES) or (integer and name.endswith(".weight")):
            raise _quantised_error(f"the checkpoint holds {name!r:.200} as {info.dtype}")


def refuse_unsupported_adapter(config: dict[str, object], tensors: Mapping[str, TensorInfo]) -> None:
    """Raise ConfigurationError unless adapter_config.json and the weights are those of a plain LoRA adapter.

    Its factors stand beside linear layers; whole weights beside them (`modules_to_save`) replace the base's. Raises
    UnsafeCheckpoint for a factor without the other.
    """
    kind = config.get("peft_type")
    if kind != "LORA":
        raise _unsupported_error(f"peft_type is {kind!r:.60}, not 'LORA'")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise _unsupported_error(f"task_type is {config['task_type']!r:.60}, not 'CAUSAL_LM'")
    for key in UNSUPPORTED_ADAPTER_KEYS:
        if config.get(key):
            raise _unsupported_error(f"{key} is set")
    if config.get("bias", "none") != "none":
        raise _unsupported_error(f"bias is {config['bias']!r:.60}, not 'none'")
    initialisation = config.get("init_lora_weights")
    if initialisation not in PLAIN_INITIALISATIONS:
        raise _unsupported_error(f"init_lora_weights is {initialisation!r:.60}, which changes the base")
    for key in ("rank_pattern", "alpha_pattern"):
        pattern = config.get(key) or {}
        if not isinstance(pattern, dict) or not all(isinstance(value, int | float) for value in pattern.values()):
            raise _unsupported_error(f"{key} is no mapping of names to numbers")
    if not isinstance(config.get("lora_alpha", 0), int | float):
        raise _unsupported_error(f"lora_alpha is {config['lora_alpha']!r:.60}, no number")
    for tensor, info in tensors.items():
        factor = tensor.endswith((A_ENDING, B_ENDING)) and len(info.shape) == 2
        if not tensor.startswith(PREFIX) or ("lora_" in tensor and not factor):
            raise _unsupported_error(
                f"its weights hold {tensor!r:.200}, no factor of a linear layer and no saved module"
            )
        if factor:
            _require_other_factor(tensor, tensors)


def _require_other_factor(tensor: str, tensors: Mapping[str, TensorInfo]) -> None:
    """A is [rank, in], B is [out, rank]."""
    of_a = tensor.endswith(A_ENDING)
    other = tensor[: -len(A_ENDING)] + (B_ENDING if of_a else A_ENDING)
    rank = tensors[tensor].shape[0 if of_a else 1]
    found = tensors.get(other)
    if found is None or len(found.shape) != 2 or found.shape[1 if of_a else 0] != rank:
        raise UnsafeCheckpoint(
            f"{tensor!r:.200} has no {other!r:.200} of the same rank",
            cause="the upload is incomplete, or two adapters were mixed",
            hint="download it again, or save the adapter anew with peft",
        )


def _quantised_error(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what}: quantised weights are not supported",
        cause="their stored numbers are codes and not weights",
        hint="use the checkpoint it was quantised from, or dequantise it; repair that, and quantise the result",
    )


def _unsupported_error(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"this adapter is not supported: {what}",
        cause="only plain LoRA on linear layers, with or without whole saved modules, can be repaired as an adapter",
        hint="merge it into its base with peft's merge_and_unload, save that, and run on the result",
    )
