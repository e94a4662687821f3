"""An adapter is to peft what its files are: it adds every factor that they hold, and none that they do not hold.

peft leaves out what a configuration does not name, and makes up what the files lack; other programs go by the files.
"""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.adapter_config import BASE_ENDING, PREFIX
from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.records import Model

if TYPE_CHECKING:
    import torch

REBUILT = "save the adapter anew with peft"


def require_complete(model: Model) -> None:
    """Let peft load the adapter of `model`, shapes alone, and read no weight.

    Raises UnsafeCheckpoint for a factor that peft would leave out, ConfigurationError for one that it would make up and
    for an adapter that does not fit its base.
    """
    if model.adapter is None:
        return
    network = _tensor_shapes(model.folder)
    paths = {path for path, _ in network.named_modules()}
    name = display_name(model.adapter)
    left_out, made_up = _compare_keys(network, model.adapter)
    for path in left_out:
        if path not in paths:
            raise not_in_base_error(name, path)
        raise UnsafeCheckpoint(
            f"the adapter {name} holds weights for {path} that its configuration does not name",
            cause="peft leaves them out and other programs add them: what is measured would not be what is served",
            hint=f"correct target_modules in adapter_config.json, or {REBUILT}",
        )
    for path in made_up:
        raise ConfigurationError(
            f"the adapter {name} has no weights for {path}, which its configuration names",
            cause="the upload is incomplete, or the configuration is another adapter's",
            hint=f"correct target_modules in adapter_config.json, or {REBUILT}",
        )


def require_same_copies(adapter: CheckpointLayout, weight_of: Callable[[str], "torch.Tensor"]) -> None:
    """Raise ConfigurationError where the adapter's copy of a weight is not what `weight_of` finds at that path.

    peft puts the copy in the base's place; other programs keep the base.
    """
    import torch

    for name in adapter.tensors:
        if not name.endswith(BASE_ENDING):
            continue
        path = name.removeprefix(PREFIX).removesuffix(BASE_ENDING) + ".weight"
        copy, own = tensors.read_tensor(adapter, name), weight_of(path)
        # Trained or loaded in other precisions, the two are of other dtypes.
        if not (torch.equal(copy, own.to(copy.dtype)) or torch.equal(copy.to(own.dtype), own)):
            raise ConfigurationError(
                f"the adapter {display_name(adapter.folder)} brings a {path} of its own, which is not that of its base",
                cause="the layer was trained or resized beside its factors, or the base is another one",
                hint="merge it into its base with peft's merge_and_unload, save that, and run on the result",
            )


def merge_adapter(network: Any) -> Any:  # noqa: ANN401 - peft is untyped
    """The base of a network that peft has wrapped, its adapter added into the weights."""
    import torch
    from peft.tuners.lora import LoraLayer

    base = network.get_base_model()
    head = base.get_output_embeddings()
    if isinstance(head, LoraLayer) and head.weight is base.get_input_embeddings().weight:
        # The factors are the head's alone; added into a weight that is shared, they would change the embeddings too.
        head.get_base_layer().weight = torch.nn.Parameter(head.weight.detach().clone())
    return network.merge_and_unload()


def not_in_base_error(adapter: str, path: str) -> ConfigurationError:
    """Of another model."""
    return ConfigurationError(
        f"the adapter {adapter} has weights for {path}, which its base does not have",
        cause="it was trained on another model",
        hint="name the right base with --reference",
    )


def _tensor_shapes(folder: Path) -> Any:  # noqa: ANN401 - transformers is untyped
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def _compare_keys(network: Any, adapter: Path) -> tuple[list[str], list[str]]:  # noqa: ANN401
    """Paths of layers whose weights peft leaves out, and of those that it makes up."""
    import torch
    from peft import LoraConfig, PeftModelForCausalLM, set_peft_model_state_dict

    held = {name: torch.empty(info.shape, device="meta") for name, info in read_layout(adapter).tensors.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tied weights, as again when it is loaded
            config = LoraConfig.from_pretrained(adapter, inference_mode=True)
            adapted = PeftModelForCausalLM(network, config, low_cpu_mem_usage=True)
            loaded = set_peft_model_state_dict(adapted, held, low_cpu_mem_usage=True)
    except Exception as error:
        raise ConfigurationError(
            f"the adapter {display_name(adapter)} does not fit its base: peft raises {type(error).__name__}",
            cause="adapter_config.json names other layers, ranks (r, rank_pattern) or modules_to_save than its weights "
            "have, or the base is another one",
            hint=f"{REBUILT}, or name the right base with --reference",
        ) from error
    missing = [key for key in loaded.missing_keys if ".lora_" in key or ".modules_to_save." in key]
    return _layer_paths(loaded.unexpected_keys), _layer_paths(missing)


def _layer_paths(keys: list[str]) -> list[str]:
    plain = (key.removeprefix(PREFIX).replace(".base_layer", "") for key in keys)
    return sorted({re.split(r"\.lora_|\.modules_to_save\.|\.weight$", path)[0] for path in plain})
