"""Check LoRA adapters before peft loads them, and merge them into their base.

peft ignores weights that adapter_config.json does not name, and initialises layers that the files lack. Other programs
follow the files, so an adapter for which the two differ is refused.
"""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.adapter_config import BASE_ENDING, PREFIX
from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.model import Network, Tensor
from antidote_ci.records import Model

HINT = "correct target_modules in adapter_config.json, or save the adapter again with peft"


def require_complete(model: Model) -> None:
    """Check that peft loads exactly the weights in the adapter's files. Only shapes are read.

    Raises UnsafeCheckpoint when peft ignores a weight; ConfigurationError when it initialises one, and when the adapter
    does not fit its base.
    """
    if model.adapter is None:
        return
    network = build_on_meta_device(model.folder)
    module_paths = {path for path, _ in network.named_modules()}
    name = display_name(model.adapter)
    ignored, initialised = _compare_keys(network, model.adapter)
    for path in ignored:
        if path not in module_paths:
            raise not_in_base_error(name, path)
        raise UnsafeCheckpoint(
            f"the adapter {name} holds weights for {path} that its configuration does not name",
            cause="peft ignores them and other programs add them, so the model measured is not the model served",
            hint=HINT,
        )
    for path in initialised:
        raise ConfigurationError(
            f"the adapter {name} has no weights for {path}, which its configuration names",
            cause="the upload is incomplete, or the configuration belongs to another adapter",
            hint=HINT,
        )


def require_same_copies(adapter: CheckpointLayout, get_weight: Callable[[str], Tensor]) -> None:
    """Raise ConfigurationError when the adapter's copy of a base weight differs from `get_weight(path)`.

    peft replaces the base's weight with the copy; other programs keep the base's.
    """
    import torch

    for name in adapter.tensors:
        if not name.endswith(BASE_ENDING):
            continue
        path = name.removeprefix(PREFIX).removesuffix(BASE_ENDING) + ".weight"
        copy, original = tensors.read_tensor(adapter, name), get_weight(path)
        # The two may have different dtypes, so they are compared in either.
        if not (torch.equal(copy, original.to(copy.dtype)) or torch.equal(copy.to(original.dtype), original)):
            raise ConfigurationError(
                f"the adapter {display_name(adapter.folder)} contains a {path} that differs from its base's",
                cause="the layer was trained or resized together with the adapter, or the base is another model",
                hint="merge the adapter into its base with peft's merge_and_unload, save that, and run on the result",
            )


def merge_adapter(network: Network) -> Network:
    """The base of a peft model, with the adapter added to its weights."""
    import torch
    from peft.tuners.lora import LoraLayer

    base = network.get_base_model()
    head = base.get_output_embeddings()
    if isinstance(head, LoraLayer) and head.weight is base.get_input_embeddings().weight:
        # The factors belong to the head. Merged into a tied weight, they would change the embeddings too.
        head.get_base_layer().weight = torch.nn.Parameter(head.weight.detach().clone())
    return network.merge_and_unload()


def not_in_base_error(adapter: str, path: str) -> ConfigurationError:
    """The adapter belongs to another base."""
    return ConfigurationError(
        f"the adapter {adapter} has weights for {path}, which its base does not have",
        cause="the adapter was trained on another model",
        hint="name the right base with --reference",
    )


def build_on_meta_device(folder: Path) -> Network:
    """The network of a full checkpoint with shapes alone: no weight is read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def _compare_keys(network: Network, adapter: Path) -> tuple[list[str], list[str]]:
    """Paths of the layers whose weights peft ignores, and of those that it initialises."""
    import torch
    from peft import LoraConfig, PeftModelForCausalLM, set_peft_model_state_dict

    state = {name: torch.empty(info.shape, device="meta") for name, info in read_layout(adapter).tensors.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about tied weights; loading the adapter shows them again
            config = LoraConfig.from_pretrained(adapter, inference_mode=True)
            adapted = PeftModelForCausalLM(network, config, low_cpu_mem_usage=True)
            loaded = set_peft_model_state_dict(adapted, state, low_cpu_mem_usage=True)
    except Exception as error:
        raise ConfigurationError(
            f"the adapter {display_name(adapter)} does not fit its base: peft raises {type(error).__name__}",
            cause="adapter_config.json names layers, ranks (r, rank_pattern) or modules_to_save that differ from the "
            "adapter's weights, or the base is another model",
            hint="save the adapter again with peft, or name the right base with --reference",
        ) from error
    missing = [key for key in loaded.missing_keys if ".lora_" in key or ".modules_to_save." in key]
    return _layer_paths(loaded.unexpected_keys), _layer_paths(missing)


def _layer_paths(keys: list[str]) -> list[str]:
    paths = (key.removeprefix(PREFIX).replace(".base_layer", "") for key in keys)
    return sorted({re.split(r"\.lora_|\.modules_to_save\.|\.weight$", path)[0] for path in paths})
