"""Checks of the configuration files of a checkpoint: no code, no files from elsewhere, a supported model."""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint.headers import TensorInfo
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint

TYPES_FILE = Path(__file__).with_name("model_types.json")
"""What transformers itself can build, as `scripts/model_types.py` lists it. Other types only run with other code."""
CODE_KEYS = frozenset(
    (
        *("auto_map", "trust_remote_code", "custom_pipelines", "custom_generate"),
        *("use_kernels", "kernel_config", "allow_all_kernels", "fusion_config"),
    )
)
KERNEL_KEYS = ("attn_implementation", "experts_implementation")
BUILT_IN_KERNELS = ("eager", "sdpa")
"""Kernels of PyTorch itself. Any other name may be a repository."""
OTHER_FILE_KEYS = frozenset(("configuration_files", "fast_tokenizer_files", "transformers_weights", "gguf_file"))
"""Keys that replace a checked file with another one."""
HARMLESS_KEYS = ("_attn_implementation_autoset", "special_tokens_map_file")
"""Written by transformers 4.46 to 4.51, and by older versions with a path of the training machine. Never read back."""
ARGUMENT_KEYS = frozenset(("init_inputs", "vocab", "merges", "tokenizer_object"))
"""Arguments of a tokenizer class that replace the vocabulary of tokenizer.json."""
SPECIAL_TOKENS = "special_tokens_map.json"
SPECIAL_TOKEN_KEY = re.compile(r"\w+_tokens?(?:_ids?)?", re.ASCII)
"""Any other key of SPECIAL_TOKENS replaces a setting or a file of the tokenizer, even the chat template of a file."""

QUANTISATION_KEYS = ("quantization_config", "compression_config")
LAYER_KEYS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
MAX_UNSTORED_LAYERS = 256
"""Up to this number of layers, missing weights are reported by name."""

HEAD = "ForCausalLM"
"""The ending of the architecture of a causal language model."""
CONV1D_MODELS = ("GPT2LMHeadModel", "OpenAIGPTLMHeadModel")
"""Causal language models whose blocks consist of Conv1D, which no repair supports."""
QUANTISED_DTYPES = ("F8_", "F6_", "F4")
"""Prefixes of dtypes that are used for quantised weights only."""
QUANTISED_NAMES = (
    *(".qweight", ".qzeros", ".scales", ".weight_scale", ".weight_scale_inv", ".weight_packed"),
    *(".SCB", ".absmax", ".quant_map"),
)
"""Tensors that GPTQ, AWQ, compressed-tensors, FP8 and bitsandbytes store beside or instead of a weight."""


@dataclass(frozen=True)
class SupportedTypes:
    """Names as they appear in configuration files."""

    transformers: str
    """The version of transformers that the list is from."""
    model_types: frozenset[str]
    architectures: frozenset[str]
    causal_models: dict[str, str]
    """Model type -> the causal language model that transformers builds."""
    tokenizers: frozenset[str]
    """Class names without the suffix `Fast`."""
    quantisations: frozenset[str]


@functools.cache
def supported_types() -> SupportedTypes:
    """Read the list."""
    data = json.loads(TYPES_FILE.read_bytes())
    names = {key: frozenset(data[key]) for key in ("model_types", "architectures", "tokenizers", "quantisations")}
    return SupportedTypes(transformers=data["transformers"], causal_models=data["causal_models"], **names)


def refuse_code(name: str, config: object) -> None:
    """Raise UnsafeCheckpoint when the file `name` requests, at any depth, code or files from elsewhere.

    `auto_map` runs Python files of a repository; `_attn_implementation` loads a kernel from the Hub (CVE-2026-4372).
    Empty values (null, false, "") are allowed.
    """
    for key, value in walk_items(config):
        if not value or key in HARMLESS_KEYS:
            continue
        selects_kernel = any(name in key for name in KERNEL_KEYS) and value not in BUILT_IN_KERNELS
        if key in CODE_KEYS or selects_kernel:
            raise UnsafeCheckpoint(
                f"{name} sets {key}",
                cause="it can make the framework run code from a repository",
                hint=f"if the architecture is part of transformers, delete {key} from {name}",
            )
        if key in OTHER_FILE_KEYS or (key.endswith("_file") and _is_path(value)):
            raise UnsafeCheckpoint(
                f"{name} sets {key}",
                cause="the framework would open another file than the one that was checked, or one of this machine",
                hint=f"delete {key} from {name}",
            )


def refuse_tokenizer(name: str, config: Mapping[str, object]) -> None:
    """Raise UnsafeCheckpoint when the file `name` builds a tokenizer from more than its own files."""
    for key in sorted(ARGUMENT_KEYS & config.keys()):
        if config[key]:
            raise UnsafeCheckpoint(
                f"{name} sets {key}",
                cause="the tokenizer would use it as its vocabulary instead of tokenizer.json",
                hint=f"delete {key} from {name}",
            )
    for key, value in config.items() if name == SPECIAL_TOKENS else ():
        if value and not SPECIAL_TOKEN_KEY.fullmatch(key):
            raise UnsafeCheckpoint(
                f"{name} sets {key:.60}",
                cause="the tokenizer would use it instead of the settings and files that are meant for it",
                hint=f"delete it from {name}, which names special tokens only",
            )
    kind = config.get("tokenizer_class")
    if kind and (not isinstance(kind, str) or kind.removesuffix("Fast") not in supported_types().tokenizers):
        raise UnsafeCheckpoint(
            f"{name} names the tokenizer_class {kind!r:.60}, which transformers {supported_types().transformers} "
            "does not have",
            cause="the class could only run with code from a repository, or is not a tokenizer",
            hint=f"set tokenizer_class to PreTrainedTokenizerFast in {name} if tokenizer.json is enough",
        )


def refuse_unknown_model(config: dict[str, object]) -> None:
    """Raise UnsafeCheckpoint for a model, or a part of one, that transformers itself cannot build.

    An unknown type, architecture or quantisation could only run with code from elsewhere. When type and architecture
    contradict each other, frameworks would differ in which one they use.
    """
    # Without a type the framework would guess it from the name of the folder. The nested type of MPT is empty.
    nested_types = [value for key, value in walk_items(config) if key == "model_type" and value not in (None, "")]
    for model_type in [config.get("model_type"), *nested_types]:
        if not isinstance(model_type, str) or model_type not in supported_types().model_types:
            raise _unknown_model_error(f"model_type {model_type!r:.60}")
    for key, value in walk_items(config):
        method = value.get("quant_method") if key in QUANTISATION_KEYS and isinstance(value, dict) else None
        if method is not None and (not isinstance(method, str) or method not in supported_types().quantisations):
            raise _unknown_model_error(f"quant_method {method!r:.60}")
    for name in _read_architectures(config):
        if name not in supported_types().architectures:
            raise _unknown_model_error(f"architecture {name!r:.60}")
        if name.endswith(HEAD) and supported_types().causal_models.get(str(config["model_type"])) != name:
            raise UnsafeCheckpoint(
                f"config.json names the architecture {name}, which is none of model_type {config['model_type']!r}",
                cause="two configurations were mixed, or frameworks are meant to run different models",
                hint="copy config.json from the model that was fine-tuned",
            )


def refuse_more_layers(config: dict[str, object], tensors: Mapping[str, TensorInfo]) -> None:
    """Raise UnsafeCheckpoint when config.json claims many more layers than there are tensors.

    The framework builds every layer before it looks for the weights.
    """
    for key, value in walk_items(config):
        if key in LAYER_KEYS and isinstance(value, int | float) and value > max(len(tensors), MAX_UNSTORED_LAYERS):
            raise UnsafeCheckpoint(
                f"config.json sets {key} to {value:,}, and the weights are {len(tensors):,} tensors",
                cause="the configuration belongs to another model, or is meant to exhaust memory",
                hint="copy config.json from the model that was fine-tuned",
            )


def refuse_unsupported_model(config: dict[str, object]) -> None:
    """Raise ConfigurationError unless config.json describes a causal language model with unquantised weights."""
    for key, value in walk_items(config):
        if key in QUANTISATION_KEYS and value is not None:
            method = value.get("quant_method") if isinstance(value, dict) else None
            raise _quantised_error(f"config.json has a {key}" + (f" ({method!s:.60})" if method else ""))
    names = _read_architectures(config)
    conv1d = next((name for name in names if name in CONV1D_MODELS), None)
    if conv1d is not None:
        raise ConfigurationError(
            f"{conv1d} is not supported",
            cause="its layers are Conv1D, and only linear ones can be repaired",
            hint=f"use a checkpoint whose architecture ends in {HEAD}",
        )
    if not names or not all(name.endswith(HEAD) for name in names):
        raise ConfigurationError(
            "the checkpoint is not a causal language model "
            f"(architectures in config.json: {', '.join(names)[:200] or 'none'})",
            cause="a classifier, an encoder or a multimodal model does not answer prompts",
            hint=f"use a checkpoint whose architecture ends in {HEAD}",
        )


def refuse_quantised(tensors: Mapping[str, TensorInfo]) -> None:
    """Raise ConfigurationError when a header shows quantised weights, whatever the configuration claims."""
    for name, info in tensors.items():
        is_integer_weight = info.dtype.startswith(("I", "U")) and name.endswith(".weight")
        if info.dtype.startswith(QUANTISED_DTYPES) or name.endswith(QUANTISED_NAMES) or is_integer_weight:
            raise _quantised_error(f"the checkpoint holds {name!r:.200} as {info.dtype}")


def walk_items(value: object) -> Iterator[tuple[str, object]]:
    """Yield every key with its value, at every depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from walk_items(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk_items(inner)


def _read_architectures(config: Mapping[str, object]) -> list[str]:
    names = config.get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []


def _is_path(value: object) -> bool:
    """Return whether `value` names a file outside the folder of the checkpoint."""
    return isinstance(value, str) and ("/" in value or "\\" in value or value.startswith("."))


def _unknown_model_error(name: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"config.json names the {name}, which transformers {supported_types().transformers} does not have",
        cause="it could only run with code from a repository",
        hint="use a model whose architecture is part of transformers, or a newer antidote-ci",
    )


def _quantised_error(problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"{problem}: quantised weights are not supported",
        cause="the stored numbers are codes, not weights",
        hint="use the checkpoint before quantisation, or dequantise it; repair that, and quantise the result",
    )
