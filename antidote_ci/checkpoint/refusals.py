"""What the configuration files of a checkpoint may not say: code to run, and variants that the repair does not know."""

from collections.abc import Iterator, Mapping
from typing import Literal

from antidote_ci.checkpoint.headers import TensorInfo
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint

CODE_KEYS = frozenset(("auto_map", "trust_remote_code", "custom_pipelines", "custom_generate"))
KERNEL_KEYS = ("attn_implementation", "experts_implementation")
# transformers 4.46 to 4.51 wrote this flag into every config.json, and no version reads it back.
HARMLESS_KEY = "_attn_implementation_autoset"

Head = Literal["ForCausalLM", "ForSequenceClassification"]
HEADS: dict[Head, tuple[str, str]] = {
    "ForCausalLM": (
        "a causal language model",
        "a classifier, an encoder or a multimodal model does not answer prompts",
    ),
    "ForSequenceClassification": ("a classifier", "a language model has no head that scores categories"),
}
"""What a checkpoint is for, and why another kind does not do. Classifiers are judges alone."""

UNSUPPORTED_ADAPTER_KEYS = (
    *("use_dora", "modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters"),
    *("lora_bias", "megatron_config", "alora_invocation_tokens", "use_qalora", "use_bdlora"),
    *("arrow_config", "kasa_config", "monteclora_config", "velora_config"),
)
# The others (pissa, olora, corda, loftq, ...) also change the base, so that zeroed factors do not give the reference.
PLAIN_INITIALISATIONS = (None, True, False, "gaussian", "eva", "orthogonal")
FACTOR_ENDINGS = (".lora_A.weight", ".lora_B.weight")


def refuse_code(name: str, config: object) -> None:
    """Raise UnsafeCheckpoint when the file `name` asks, at any depth, for code from elsewhere.

    `auto_map` runs Python files of a repository, `_attn_implementation` a kernel from the Hub (CVE-2026-4372).
    """
    for key, value in _items(config):
        asks = key in CODE_KEYS or (_names_kernel(key) and key != HARMLESS_KEY)
        if asks and value is not None and value is not False:
            raise UnsafeCheckpoint(
                f"{name} sets {key}",
                cause="it can make the framework run code that comes with a repository",
                hint=f"if the architecture is one of transformers' own, delete {key} from {name}",
            )


def refuse_unsupported_model(config: dict[str, object], head: Head) -> None:
    """Raise ConfigurationError unless config.json describes a model with that head in plain weights."""
    if config.get("quantization_config") is not None:
        raise ConfigurationError(
            "config.json has a quantization_config: quantised weights are not supported",
            cause="their stored numbers are codes and not weights",
            hint="use the checkpoint before quantisation, repair it, and quantise the result",
        )
    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    if not names or not all(str(name).endswith(head) for name in names):
        said = ", ".join(map(str, names))[:200] or "none"
        what, cause = HEADS[head]
        raise ConfigurationError(
            f"the checkpoint is not {what} (architectures in config.json: {said})",
            cause=cause,
            hint=f"use a checkpoint whose architecture ends in {head}",
        )


def refuse_unsupported_adapter(config: dict[str, object], tensors: Mapping[str, TensorInfo]) -> None:
    """Raise ConfigurationError unless adapter_config.json and the weights are those of a plain LoRA adapter."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise _unsupported(f"peft_type is {kind!r:.60}, not 'LORA'")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise _unsupported(f"task_type is {config['task_type']!r:.60}, not 'CAUSAL_LM'")
    for key in UNSUPPORTED_ADAPTER_KEYS:
        if config.get(key):
            raise _unsupported(f"{key} is set")
    if config.get("bias", "none") != "none":
        raise _unsupported(f"bias is {config['bias']!r:.60}, not 'none'")
    initialisation = config.get("init_lora_weights")
    if initialisation not in PLAIN_INITIALISATIONS:
        raise _unsupported(f"init_lora_weights is {initialisation!r:.60}, which changes the base")
    for tensor, info in tensors.items():
        if not tensor.endswith(FACTOR_ENDINGS) or len(info.shape) != 2:
            raise _unsupported(f"its weights hold {tensor!r:.200}, no factor of a linear layer")


def _unsupported(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"this adapter is not supported: {what}",
        cause="only plain LoRA on linear layers can be repaired as an adapter",
        hint="merge it into its base with peft's merge_and_unload, save that, and run on the result",
    )


def _names_kernel(key: str) -> bool:
    return any(name in key for name in KERNEL_KEYS)


def _items(value: object) -> Iterator[tuple[str, object]]:
    """Every key with its value, at every depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _items(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _items(inner)
