"""Checks of a LoRA adapter: adapter_config.json, and the names and shapes of its tensors.

peft names a tensor `base_model.model.<path of the layer>.lora_A.weight`.
"""

import re
from collections.abc import Mapping

from antidote_ci.checkpoint.headers import TensorInfo
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint

PREFIX = "base_model.model."
A_ENDING, B_ENDING = ".lora_A.weight", ".lora_B.weight"
BASE_ENDING = ".base_layer.weight"
"""A copy of the weight beside the factors: peft saves it for an output layer."""

PEFT_IMPORTS = "megatron.core"
"""The default of `megatron_core` in every file: peft imports this module when an adapter uses it."""
LIBRARY_NAME = re.compile(r"(?:transformers|peft)(?:\.\w+)*", re.ASCII)
REVISION = re.compile(r"\w[\w./-]{0,99}", re.ASCII)
UNSUPPORTED_KEYS = (
    *("use_dora", "fan_in_fan_out", "trainable_token_indices", "layer_replication", "target_parameters"),
    *("lora_bias", "megatron_config", "alora_invocation_tokens", "use_qalora", "use_bdlora"),
    *("arrow_config", "kasa_config", "monteclora_config", "velora_config"),
)
# The others (pissa, olora, corda, loftq, ...) also change the base: zeroed factors would not give the reference.
PLAIN_INITIALISATIONS = (None, True, False, "gaussian", "eva", "orthogonal")


def refuse_adapter_code(config: dict[str, object]) -> None:
    """Raise UnsafeCheckpoint when adapter_config.json makes peft import a module, or names no revision of the base.

    peft matches regular expressions with the names of layers: `model.checkpoint_check` limits the time.
    """
    mapping = config.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, dict) else mapping
    if library is not None and not (isinstance(library, str) and LIBRARY_NAME.fullmatch(library)):
        raise _unsafe_error(f"names the parent_library {library!r:.60}", "peft would import it", "auto_mapping")
    imported = config.get("megatron_core")
    if imported not in (None, "", PEFT_IMPORTS):
        raise _unsafe_error(f"names the megatron_core {imported!r:.60}", "peft would import it", "megatron_core")
    revision = config.get("revision") or None
    if revision is not None and not _is_revision(revision):
        raise _unsafe_error(f"names the revision {revision!r:.60}", "it is not a commit, branch or tag", "revision")


def refuse_unsupported_adapter(config: dict[str, object], tensors: Mapping[str, TensorInfo]) -> None:
    """Raise ConfigurationError unless configuration and tensors are those of a plain LoRA adapter of linear layers.

    Whole weights beside the factors (`modules_to_save`) are allowed. Raises UnsafeCheckpoint when one factor of a pair
    is missing.
    """
    if config.get("peft_type") != "LORA":
        raise _unsupported_error(f"peft_type is {config.get('peft_type')!r:.60}, not 'LORA'")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise _unsupported_error(f"task_type is {config['task_type']!r:.60}, not 'CAUSAL_LM'")
    for key in UNSUPPORTED_KEYS:
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
            raise _unsupported_error(f"{key} must map names to numbers")
    if not isinstance(config.get("lora_alpha", 0), int | float):
        raise _unsupported_error(f"lora_alpha is {config['lora_alpha']!r:.60}, no number")
    for tensor, info in tensors.items():
        is_factor = tensor.endswith((A_ENDING, B_ENDING)) and len(info.shape) == 2
        if not tensor.startswith(PREFIX) or ("lora_" in tensor and not is_factor):
            raise _unsupported_error(
                f"its weights hold {tensor!r:.200}, no factor of a linear layer and no saved module"
            )
        if is_factor:
            _require_paired_factor(tensor, tensors)


def _is_revision(revision: object) -> bool:
    if not isinstance(revision, str) or ".." in revision or "//" in revision:
        return False
    return REVISION.fullmatch(revision) is not None


def _require_paired_factor(tensor: str, tensors: Mapping[str, TensorInfo]) -> None:
    """A [rank, in] and B [out, rank] must both exist, with the same rank."""
    is_a = tensor.endswith(A_ENDING)
    paired = tensor[: -len(A_ENDING)] + (B_ENDING if is_a else A_ENDING)
    rank = tensors[tensor].shape[0 if is_a else 1]
    info = tensors.get(paired)
    if info is None or len(info.shape) != 2 or info.shape[1 if is_a else 0] != rank:
        raise UnsafeCheckpoint(
            f"{tensor!r:.200} has no {paired!r:.200} of the same rank",
            cause="the upload is incomplete, or two adapters were mixed",
            hint="download it again, or save the adapter again with peft",
        )


def _unsafe_error(problem: str, cause: str, key: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"adapter_config.json {problem}", cause=cause, hint=f"set {key} to null, or save the adapter again with peft"
    )


def _unsupported_error(problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"this adapter is not supported: {problem}",
        cause="only plain LoRA on linear layers, with or without modules_to_save, can be repaired as an adapter",
        hint="merge it into its base with peft's merge_and_unload, save the result, and run on it",
    )
