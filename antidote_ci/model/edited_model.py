"""A loaded model whose weights are edited in memory, to try a repair without writing it. Runs in the sandbox process.

Every weight has the bits that it has when `repair.apply` writes the same edit and the written files are loaded: each
tensor is edited in the dtype in which it is stored, and then merged and rounded as the loader does.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from weakref import WeakKeyDictionary

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.adapter_config import A_ENDING
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.checkpoint.tensors import ChunkReader
from antidote_ci.model import Network, Tensor, loading
from antidote_ci.model.adapters import list_factors, merge_weight
from antidote_ci.model.edits import edit_tensor_, open_edit
from antidote_ci.model.streaming.weights import build_weight_map
from antidote_ci.records import Model, WeightEdit

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


def _edit_weights(network: Network, model: Model, edit: WeightEdit) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each parameter that the edit can change, with its new weights in the stored dtype or float32."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    full = read_layout(model.folder)
    sources = build_weight_map(network, get_model_conversion_mapping(network), full)
    with ExitStack() as resources:
        if model.adapter is None:
            read_edited = _open_editor(edit, full, resources)
            for name in edit.tensors:
                yield network.get_parameter(sources[name].parameter), read_edited(name)
            return
        adapter, edited = read_layout(model.adapter), set(edit.tensors)
        read_edited = _open_editor(edit, adapter, resources)
        names = {source.parameter: name for name, source in sources.items()}
        for path, factors in list_factors(adapter).items():
            if factors.a in edited or factors.b in edited:
                parameter = network.get_parameter(f"{path}.weight")
                base = tensors.read_tensor(full, names[f"{path}.weight"]).to(parameter.device)
                a, b = (read_edited(name).to(parameter.device) for name in (factors.a, factors.b))
                yield parameter, merge_weight(base, a, b, factors.scaling)


def _open_editor(edit: WeightEdit, source: CheckpointLayout, resources: ExitStack) -> Callable[[str], Tensor]:
    """A function that reads a tensor of the source and edits it."""
    reference = None if edit.reference is None else read_layout(edit.reference)
    shards = reference.shards if reference else ()
    files = {shard: resources.enter_context((edit.reference / shard).open("rb")) for shard in shards if edit.reference}

    def open_reference(name: str) -> ChunkReader | None:
        return None if reference is None else tensors.open_chunks(reference, files, name)

    edit_tensor = open_edit(edit.masks / edit.mask if edit.masks else None, edit.dose, open_reference, resources)
    edited = set(edit.tensors)
    if edit.masks is None and reference is None:
        # The delta of an adapter is B A: scaling one factor scales it.
        edited = {name for name in edited if not name.endswith(A_ENDING)}

    def read_edited(name: str) -> Tensor:
        weight = tensors.read_tensor(source, name)
        if name in edited and not edit_tensor_(weight, edit_tensor(name)):
            return tensors.read_tensor(source, name)  # a repair leaves it as it is, also where a zero got another sign
        return weight

    return read_edited
