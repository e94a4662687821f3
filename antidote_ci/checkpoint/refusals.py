"""What the configuration files of a checkpoint may not say: whose code to run, and which other files to open."""

import re
from collections.abc import Iterator, Mapping

from antidote_ci.checkpoint import patterns
from antidote_ci.checkpoint.headers import TensorInfo
from antidote_ci.checkpoint.model_types import supported_types
from antidote_ci.errors import UnsafeCheckpoint

CODE_KEYS = frozenset(
    (
        *("auto_map", "trust_remote_code", "custom_pipelines", "custom_generate"),
        *("use_kernels", "kernel_config", "allow_all_kernels", "fusion_config"),
    )
)
KERNEL_KEYS = ("attn_implementation", "experts_implementation")
OWN_KERNELS = ("eager", "sdpa")
"""Of PyTorch itself; every other name may be a repository's."""
# transformers 4.46 to 4.51 wrote this flag into every config.json, and no version reads it back.
HARMLESS_KEY = "_attn_implementation_autoset"

OTHER_FILE_KEYS = frozenset(("configuration_files", "fast_tokenizer_files", "transformers_weights", "gguf_file"))
"""What puts another file in the place of one that was checked."""
ARGUMENT_KEYS = frozenset(("init_inputs", "vocab", "merges", "tokenizer_object"))
"""What a tokenizer's class takes for its vocabulary, in the place of tokenizer.json."""
# Older versions wrote the path of the machine that trained it, and no version opens it.
HARMLESS_FILE_KEY = "special_tokens_map_file"

QUANTISATION_KEYS = ("quantization_config", "compression_config")
LAYER_KEYS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
MAX_UNSTORED_LAYERS = 256
"""Layers, whose weights are then missed by name."""
PEFT_IMPORTS = "megatron.core"
"""The module that peft names in every file, and imports where an adapter asks for it."""
LIBRARY_NAME = re.compile(r"(?:transformers|peft)(?:\.\w+)*", re.ASCII)
REVISION = re.compile(r"\w[\w./-]{0,99}", re.ASCII)

PATTERN_KEYS = ("target_modules", "exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern")
"""What peft takes for regular expressions; of the last two the keys."""


def refuse_code(name: str, config: object) -> None:
    """Raise UnsafeCheckpoint when the file `name` asks, at any depth, for code or files from elsewhere.

    `auto_map` runs Python files of a repository, `_attn_implementation` a kernel from the Hub (CVE-2026-4372). Values
    that ask for nothing (null, false, empty) pass.
    """
    for key, value in walk_items(config):
        if not value or key in (HARMLESS_KEY, HARMLESS_FILE_KEY):
            continue
        if key in CODE_KEYS or (_names_kernel(key) and value not in OWN_KERNELS):
            raise UnsafeCheckpoint(
                f"{name} sets {key}",
                cause="it can make the framework run code that comes with a repository",
                hint=f"if the architecture is one of transformers' own, delete {key} from {name}",
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
                cause="the tokenizer would take it for its vocabulary, in the place of tokenizer.json",
                hint=f"delete {key} from {name}",
            )
    kind = config.get("tokenizer_class")
    if kind and (not isinstance(kind, str) or kind.removesuffix("Fast") not in supported_types().tokenizers):
        raise UnsafeCheckpoint(
            f"{name} names the tokenizer_class {kind!r:.60}, which transformers {supported_types().transformers} "
            "does not have",
            cause="it could only run with the repository's own code, or is no tokenizer",
            hint=f"write PreTrainedTokenizerFast into {name}, if tokenizer.json is all that it needs",
        )


def refuse_unknown_model(config: dict[str, object]) -> None:
    """Raise UnsafeCheckpoint for a model, or a part of one, that transformers itself cannot build.

    An unknown type, architecture or quantisation could only run with code from elsewhere. Where type and architecture
    do not belong together, readers would differ in which one they take.
    """
    # Without a type the framework would guess it from the name of the folder.
    kinds = [
        config.get("model_type"),
        # MPT's nested one is empty.
        *(kind for key, kind in walk_items(config) if key == "model_type" and kind not in (None, "")),
    ]
    for kind in kinds:
        if not isinstance(kind, str) or kind not in supported_types().model_types:
            raise _unknown_model_error(f"model_type {kind!r:.60}")
    for key, value in walk_items(config):
        method = value.get("quant_method") if key in QUANTISATION_KEYS and isinstance(value, dict) else None
        if method is not None and (not isinstance(method, str) or method not in supported_types().quantisations):
            raise _unknown_model_error(f"quant_method {method!r:.60}")
    for name in read_architectures(config):
        if name not in supported_types().architectures:
            raise _unknown_model_error(f"architecture {name!r:.60}")
        for head, built in supported_types().heads.items():
            if name.endswith(head) and built.get(str(config["model_type"])) != name:
                raise UnsafeCheckpoint(
                    f"config.json names the architecture {name}, which is none of model_type {config['model_type']!r}",
                    cause="two configurations were mixed, or readers are meant to differ in what they run",
                    hint="take config.json from the model that was fine-tuned",
                )


def refuse_more_layers(config: dict[str, object], tensors: Mapping[str, TensorInfo]) -> None:
    """Raise UnsafeCheckpoint where config.json claims many more layers than there are tensors.

    The framework builds every layer before it looks for the weights.
    """
    for key, value in walk_items(config):
        if key in LAYER_KEYS and isinstance(value, int | float) and value > max(len(tensors), MAX_UNSTORED_LAYERS):
            raise UnsafeCheckpoint(
                f"config.json sets {key} to {value:,}, and the weights are {len(tensors):,} tensors",
                cause="the configuration is another model's, or meant to exhaust what builds it",
                hint="take config.json from the model that was fine-tuned",
            )


def refuse_adapter_code(config: dict[str, object]) -> None:
    """Raise UnsafeCheckpoint when adapter_config.json makes peft import a module, or match names without end."""
    mapping = config.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, dict) else mapping
    if library is not None and not (isinstance(library, str) and LIBRARY_NAME.fullmatch(library)):
        raise _adapter_error(f"names the parent_library {library!r:.60}", "peft would import it", "auto_mapping")
    imported = config.get("megatron_core")
    if imported not in (None, "", PEFT_IMPORTS):
        raise _adapter_error(f"names the megatron_core {imported!r:.60}", "peft would import it", "megatron_core")
    revision = config.get("revision") or None
    if revision is not None and not (
        isinstance(revision, str) and REVISION.fullmatch(revision) and _is_plain_revision(revision)
    ):
        raise _adapter_error(f"names the revision {revision!r:.60}", "it is no commit, branch or tag", "revision")
    for key in PATTERN_KEYS:
        for pattern in _walk_texts(config.get(key)):
            if len(pattern) > patterns.MAX_CHARACTERS or patterns.has_nested_repeat(pattern):
                raise _adapter_error(f"sets {key} to {pattern!r:.60}", "matching names with it may not end", key)


def read_architectures(config: Mapping[str, object]) -> list[str]:
    """What config.json names."""
    named = config.get("architectures")
    return [str(name) for name in named] if isinstance(named, list) else []


def walk_items(value: object) -> Iterator[tuple[str, object]]:
    """Every key with its value, at every depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from walk_items(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk_items(inner)


def _unknown_model_error(what: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"config.json names the {what}, which transformers {supported_types().transformers} does not have",
        cause="it could only run with code that comes with a repository",
        hint="use a model whose architecture is one of transformers' own, or a newer antidote-ci",
    )


def _adapter_error(what: str, cause: str, key: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"adapter_config.json {what}", cause=cause, hint=f"set {key} to null, or save the adapter anew with peft"
    )


def _names_kernel(key: str) -> bool:
    return any(name in key for name in KERNEL_KEYS)


def _is_path(value: object) -> bool:
    """Whether it names a file, and none of the same folder."""
    return isinstance(value, str) and ("/" in value or "\\" in value or value.startswith("."))


def _is_plain_revision(revision: str) -> bool:
    return ".." not in revision and "//" not in revision


def _walk_texts(value: object) -> Iterator[str]:
    """A text itself, or those of a list, or the keys of an object."""
    for text in [value] if isinstance(value, str) else value if isinstance(value, list | dict) else ():
        if isinstance(text, str):
            yield text
