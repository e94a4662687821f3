"""Check LoRA adapters before peft loads them, and merge them into their base.

peft ignores weights that adapter_config.json does not name, and initialises layers that the files lack. Other programs
follow the files, so an adapter for which the two differ is refused.
"""

import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.adapter_config import A_ENDING, B_ENDING, BASE_ENDING, PREFIX
from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.model import DType, Network, Tensor
from antidote_ci.records import Model


@dataclass(frozen=True)
class LoraFactors:
    """The tensor names of one layer's A [rank, in] and B [out, rank], and its scale."""

    a: str
    b: str
    scaling: float


HINT = "correct target_modules in adapter_config.json, or save the adapter again with peft"


def require_complete(model: Model) -> None:
    """Check that peft loads exactly the weights in the adapter's files. Only shapes are read.

    Raises UnsafeCheckpoint when peft ignores a weight; ConfigurationError when it initialises one, and when the adapter
    does not fit its base.
    """
    if model.adapter is None:
        return
    network = build_on_meta_device(model)
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


def list_factors(layout: CheckpointLayout, strength: float = 1.0) -> dict[str, LoraFactors]:
    """The factors of an adapter by the path of their layer. `strength` multiplies their scale."""
    factors = {}
    for name, info in layout.tensors.items():
        if name.endswith(A_ENDING):
            path = name.removeprefix(PREFIX).removesuffix(A_ENDING)
            b = name.removesuffix(A_ENDING) + B_ENDING
            factors[path] = LoraFactors(name, b, strength * lora_scale(layout.config, path, info.shape[0]))
    return factors


def list_saved(layout: CheckpointLayout) -> dict[str, str]:
    """The tensors of an adapter's `modules_to_save`, by the path of the parameter that they replace."""
    others = (A_ENDING, B_ENDING, BASE_ENDING)
    return {name.removeprefix(PREFIX): name for name in layout.tensors if not name.endswith(others)}


def lora_scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """The scale s of y = W x + s B (A x): alpha / r, or alpha / sqrt(r) with rank-stabilised LoRA.

    https://arxiv.org/abs/2106.09685, https://arxiv.org/abs/2312.03732

    alpha comes from the first entry of `alpha_pattern` that matches the module's path or its end, as in
    peft.utils.other.get_pattern_key, else from `lora_alpha`.
    """
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
            break
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def merge_weight(weight: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """W + s B A in float32: `weight` [out, in], `a` [rank, in], `b` [out, rank]."""
    return (b.float() @ a.float()).mul_(scaling).add_(weight.float())


def has_own_weights(network: Network, adapter: CheckpointLayout) -> bool:
    """Whether every parameter that the adapter changes is one of the network's own, and not tied to another."""
    parameters = {path for path, _ in network.named_parameters()}
    ties = network.all_tied_weights_keys
    changed = [*(f"{path}.weight" for path in list_factors(adapter)), *list_saved(adapter)]
    return parameters.issuperset(changed) and {*ties, *ties.values()}.isdisjoint(changed)


def merge_adapter(network: Network, adapter: Path, dtype: DType) -> Network:
    """The network with the adapter added to its weights, in float32 before the cast to `dtype`.

    One weight at a time is in float32. The bits are those of peft's merge in float32.
    """
    layout = read_layout(adapter)
    if not has_own_weights(network, layout):
        return _merge_with_peft(network, adapter)
    for path, factors in list_factors(layout).items():
        parameter = network.get_parameter(f"{path}.weight")
        a, b = (tensors.read_tensor(layout, name).to(parameter.device) for name in (factors.a, factors.b))
        parameter.data = merge_weight(parameter.data, a, b, factors.scaling).to(dtype)
    for path, name in list_saved(layout).items():
        parameter = network.get_parameter(path)
        parameter.data = tensors.read_tensor(layout, name).float().to(parameter.device, dtype)
    return network


def _merge_with_peft(network: Network, adapter: Path) -> Network:
    """The network with an adapter of tied weights, or of experts that transformers fuses."""
    import torch
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    for parameter in network.parameters():
        parameter.data = parameter.data.float()
    adapted = PeftModel.from_pretrained(network, adapter, local_files_only=True)
    base = adapted.get_base_model()
    head = base.get_output_embeddings()
    if isinstance(head, LoraLayer) and head.weight is base.get_input_embeddings().weight:
        # The factors belong to the head. Merged into a tied weight, they would change the embeddings too.
        head.get_base_layer().weight = torch.nn.Parameter(head.weight.detach().clone())
    return adapted.merge_and_unload()


def not_in_base_error(adapter: str, path: str) -> ConfigurationError:
    """The adapter belongs to another base."""
    return ConfigurationError(
        f"the adapter {adapter} has weights for {path}, which its base does not have",
        cause="the adapter was trained on another model",
        hint="name the right base with --reference",
    )


def build_on_meta_device(model: Model) -> Network:
    """The network of a model, without its adapter, with shapes alone: no weight is read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model.folder, local_files_only=True, trust_remote_code=False)
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
