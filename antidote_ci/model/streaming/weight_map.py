"""Which parameter of the network a tensor of the files becomes, by the rules of transformers' loader and of peft.

It is decided here and nowhere else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.errors import ConfigurationError
from antidote_ci.model.adapters import not_in_base_error
from antidote_ci.model.streaming.lazy_tensor import LazyTensor
from antidote_ci.model.streaming.lora import LoraAdapter

SINGLE_EXPERT = re.compile(r"\.experts\.\d+\.")


@dataclass(frozen=True)
class ParameterSource:
    """Where a tensor of the files belongs."""

    tensor: LazyTensor
    parameter: str
    """The path of what it becomes, or becomes a part of."""
    changed: bool = False
    """It is no copy: tensors are stacked, split or turned on the way, as those of experts are."""


def build_weight_map(network: Any, conversions: Sequence[Any], layout: CheckpointLayout) -> dict[str, ParameterSource]:  # noqa: ANN401
    """By the name under which the loader is given the tensor. What the network has no place for is left out."""
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    known, prefix = network.state_dict(), network.base_model_prefix
    renamings = [each for each in conversions if isinstance(each, WeightRenaming)]
    converters = [each for each in conversions if isinstance(each, WeightConverter)]
    places = {}
    for name in layout.tensors:
        parameter, converter = rename_source_key(name, renamings, converters, prefix, known)
        if parameter not in known and name in known:
            parameter, converter = rename_source_key(name, [], [], prefix, known)
        if parameter in known:
            places[name] = ParameterSource(LazyTensor(layout, name), parameter, changed=converter is not None)
    return places


def find_tied_parameters(network: Any, places: Mapping[str, ParameterSource]) -> dict[str, str]:  # noqa: ANN401 - transformers is untyped
    """Parameters that no tensor is placed at, and the one each of them is tied to."""
    placed = {place.parameter for place in places.values()}
    ties = {}
    for target, source in network.all_tied_weights_keys.items():
        if target not in placed:
            ties[target] = source
        elif source not in placed:
            ties[source] = target
    return ties


def add_saved_modules(
    network: Any,  # noqa: ANN401
    places: Mapping[str, ParameterSource],
    lora: LoraAdapter,
) -> dict[str, ParameterSource]:
    """`places`, with what an adapter saved whole in the place of its base's.

    Raises ConfigurationError where the adapter has something for a module that its base does not have, or has as a part
    of another.
    """
    known = {path for path, _ in network.named_modules()} | network.state_dict().keys()
    for path in [*lora.modules, *lora.saved]:
        if path in known:
            continue
        if SINGLE_EXPERT.search(path) and any(name.endswith(".experts") for name in known):
            raise ConfigurationError(
                f"the adapter {display_name(lora.layout.folder)} has factors beside single experts, such as {path}",
                cause="the framework holds the experts of a block as one tensor, and no repair tells them apart",
                hint="merge it into its base with peft's merge_and_unload, save that, and run on the result",
            )
        raise not_in_base_error(display_name(lora.layout.folder), path)
    found = {name: place for name, place in places.items() if place.parameter not in lora.saved}
    found |= {path: ParameterSource(stored, path) for path, stored in lora.saved.items()}
    # peft copies the one of two tied weights that it trains, and leaves the other as it was
    replaced = {place.parameter: place.tensor for place in places.values() if place.parameter in lora.saved}
    for path, other in find_tied_parameters(network, found).items():
        if other in replaced:
            found[path] = ParameterSource(replaced[other], path)
    return found
