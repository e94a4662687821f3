"""A loaded model whose weights are edited in memory, to try a repair without writing it. Runs in the sandbox process.

Every weight has the bits that it has when `repair.apply` writes the same edit and the written files are loaded: each
tensor is edited in the dtype in which it is stored, and then merged and rounded as the loader does.
"""

import dataclasses
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.adapter_config import A_ENDING
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.tensors import TensorFile
from antidote_ci.model import Network, Tensor, loading
from antidote_ci.model.adapters import list_factors, merge_weight
from antidote_ci.model.streaming.weights import build_weight_map
from antidote_ci.records import Model, WeightEdit
from antidote_ci.repair import edits, masks

TensorEditor = Callable[[str, Tensor], Tensor]
"""Returns the edited tensor of a name."""

INCOMPLETE = WeightEdit((), None, 0.0)
"""The edit of a network while its weights are being changed."""

_applied: "WeakKeyDictionary[Network, WeightEdit]" = WeakKeyDictionary()
"""The edit of each network that was edited."""


def load_edited_model(model: Model) -> Network:
    """The merged model with its edit, if it has one. It stays in memory, and a further edit of it replaces the first.

    Raises the errors of `loading.load_model`.
    """
    network = loading.load_cached_model(dataclasses.replace(model, edit=None))
    if _applied.get(network) != model.edit:
        if model.edit is None:
            loading.release_models()
            return loading.load_cached_model(model)
        _applied[network] = INCOMPLETE
        with loading.explain_out_of_memory(model):
            for parameter, weight in _edit_weights(network, model, model.edit):
                parameter.data.copy_(weight)
        _applied[network] = model.edit
    return network


def _edit_weights(network: Network, model: Model, weight_edit: WeightEdit) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each parameter that the edit can change, with its new weights in the stored dtype or float32."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    edit, full = _build_editor(weight_edit), read_layout(model.folder)
    sources = build_weight_map(network, get_model_conversion_mapping(network), full)
    if model.adapter is None:
        for name in weight_edit.tensors:
            yield network.get_parameter(sources[name].parameter), edit(name, tensors.read_tensor(full, name))
        return
    adapter, edited = read_layout(model.adapter), set(weight_edit.tensors)
    names = {source.parameter: name for name, source in sources.items()}
    for path, factors in list_factors(adapter).items():
        if factors.a in edited or factors.b in edited:
            parameter = network.get_parameter(f"{path}.weight")
            base = tensors.read_tensor(full, names[f"{path}.weight"]).to(parameter.device)
            a, b = (
                edit(name, tensors.read_tensor(adapter, name)).to(parameter.device) for name in (factors.a, factors.b)
            )
            yield parameter, merge_weight(base, a, b, factors.scaling)


def _build_editor(edit: WeightEdit) -> TensorEditor:
    import torch

    reference = None if edit.reference is None else read_layout(edit.reference)
    mask_file = None if edit.masks is None else TensorFile(edit.masks / edit.mask)

    def edit_tensor(name: str, weight: Tensor) -> Tensor:
        base = None if reference is None else tensors.read_tensor(reference, name)
        if mask_file is None:
            # The delta of an adapter is B A: scaling one factor scales it.
            if reference is None and name.endswith(A_ENDING):
                return weight
            return edits.interpolate(weight, torch.zeros(()) if base is None else base, edit.dose)
        mask = masks.unpack_mask(mask_file.read(name), *weight.shape)
        return edits.zero_masked(weight, mask) if base is None else edits.restore_masked(weight, base, mask)

    return edit_tensor
