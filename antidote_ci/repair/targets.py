"""Which tensors a repair may change, which it leaves alone, and whether a reference fits."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import prod

from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.headers import TensorInfo
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.checkpoint.lora_names import A_ENDING, B_ENDING, BASE_ENDING, PREFIX
from antidote_ci.checkpoint.tensors import WEIGHT_DTYPES
from antidote_ci.errors import ConfigurationError
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, HEAD_PART, MetaModel
from antidote_ci.records import Model, RepairTarget, ScoredTensor, UntouchedWeights

EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in")
OUTPUT_LAYERS = ("lm_head", "embed_out")

OUTSIDE = "embeddings and output layer: inputs are measured inside the decoder's blocks only"
VECTORS = "norms and biases: one number a feature, no matrix"
EXPERTS = "experts: their inputs are not seen by any linear layer"
NO_LINEAR = "routers and other maps that are no linear layer"
SAVED_WHOLE = "trained whole beside the adapter's factors (modules_to_save)"


def resolve_repair_target(source: CheckpointLayout) -> RepairTarget:
    """Return `adapter` for a LoRA adapter, whose factors are scored, else `delta`: the difference to the reference."""
    return "adapter" if source.kind == "adapter" else "delta"


def list_scored(model: Model, target: RepairTarget) -> tuple[list[ScoredTensor], list[UntouchedWeights]]:
    """The matrices that are scored, and in groups what is left alone. Runs nothing; called in the child process.

    Scored are the weights of the linear layers of every block, or an adapter's factors beside them. Raises
    ConfigurationError where there are none.
    """
    import torch

    skeleton = MetaModel(model, torch.bfloat16, "cpu")
    if target == "adapter":
        return _list_factors(skeleton)
    shapes = skeleton.layout.tensors
    matrices = [each.tensor for block in skeleton.blocks for each in skeleton.linear_layers(block)]
    known, alone = set(matrices), dict[str, str]()
    for block in skeleton.blocks:
        alone |= {
            name: _explain_untouched(name, shapes[name]) for name in skeleton.tensor_names(block) if name not in known
        }
    for part in (EMBEDDINGS_PART, HEAD_PART):
        alone |= {name: VECTORS if len(shapes[name].shape) < 2 else OUTSIDE for name in skeleton.tensor_names(part)}
    return _list_matrices(matrices, shapes, skeleton.layout), _group_untouched(alone, shapes)


def require_same_shapes(source: CheckpointLayout, reference: CheckpointLayout) -> None:
    """Raises ConfigurationError naming the first tensor of a full checkpoint that its reference has otherwise.

    Embeddings and output layer take no part in a repair: their rows, the vocabulary, may differ, and an output layer
    that is tied may be saved in one of the two alone. An adapter must fit its reference: A [rank, in] and
    B [out, rank] around a weight [out, in]. Reads headers only.
    """
    if reference.kind != "full":
        raise ConfigurationError(
            f"the reference {display_name(reference.folder)} is an adapter",
            hint="name the full aligned checkpoint with --reference",
        )
    if source.kind == "adapter":
        _require_adapter_fits(source, reference)
        return
    theirs = reference.tensors
    for tensor, info in source.tensors.items():
        other = theirs.get(tensor)
        if other is None and _is_in_layers(tensor, OUTPUT_LAYERS):
            continue
        skip = 1 if _is_in_layers(tensor, EMBEDDINGS + OUTPUT_LAYERS) else 0
        if other is None or other.shape[skip:] != info.shape[skip:]:
            raise ConfigurationError(
                f"the reference has {_describe_tensor(other)} where the model has {tensor} of shape {list(info.shape)}",
                cause="it is not the model that was fine-tuned",
                hint="name the right one with --reference",
            )


def _list_factors(meta_model: MetaModel) -> tuple[list[ScoredTensor], list[UntouchedWeights]]:
    if meta_model.lora is None:
        raise ValueError("the model has no adapter")
    inside = tuple(f"{block}." for block in meta_model.blocks)
    modules = meta_model.lora.modules
    matrices = [name for path in modules if path.startswith(inside) for name in (modules[path].a, modules[path].b)]
    known, shapes = set(matrices), meta_model.lora.layout.tensors
    others = [name for name in shapes if name not in known]
    alone = {name: OUTSIDE if name.endswith((A_ENDING, B_ENDING, BASE_ENDING)) else SAVED_WHOLE for name in others}
    return _list_matrices(matrices, shapes, meta_model.lora.layout), _group_untouched(alone, shapes)


def _list_matrices(
    names: Iterable[str], shapes: Mapping[str, TensorInfo], layout: CheckpointLayout
) -> list[ScoredTensor]:
    found = []
    for name in names:
        rows, columns = shapes[name].shape
        found.append(ScoredTensor(name, rows, columns))
    if not found:
        raise ConfigurationError(
            f"{display_name(layout.folder)} holds no linear layer that can be repaired",
            cause="none of its blocks' weights is the weight of a linear layer as it is used",
            hint="report this architecture",
        )
    return found


def _explain_untouched(name: str, info: TensorInfo) -> str:
    """Why a tensor of a block that is no linear layer's is left alone."""
    if len(info.shape) < 2:
        return VECTORS
    return EXPERTS if len(info.shape) > 2 or ".experts." in name else NO_LINEAR


def _group_untouched(alone: Mapping[str, str], shapes: Mapping[str, TensorInfo]) -> list[UntouchedWeights]:
    """One entry a reason: tensors that differ in a number only are one pattern."""
    patterns: dict[str, dict[str, None]] = defaultdict(dict)
    weights: dict[str, int] = defaultdict(int)
    for name, why in alone.items():
        if shapes[name].dtype in WEIGHT_DTYPES:
            patterns[why][re.sub(r"(?<=\.)\d+(?=\.)", "*", name)] = None
            weights[why] += prod(shapes[name].shape)
    return [UntouchedWeights(", ".join(patterns[why]), why, weights[why]) for why in patterns]


def _is_in_layers(tensor: str, layers: tuple[str, ...]) -> bool:
    return any(part in layers for part in tensor.split("."))


def _describe_tensor(other: TensorInfo | None) -> str:
    return "no such tensor" if other is None else f"shape {list(other.shape)}"


def _require_adapter_fits(source: CheckpointLayout, reference: CheckpointLayout) -> None:
    theirs = reference.tensors
    for tensor, info in source.tensors.items():
        if not tensor.endswith((A_ENDING, B_ENDING)):
            continue
        side = 1 if tensor.endswith(A_ENDING) else 0
        weight = tensor.removeprefix(PREFIX).rsplit(".lora_", 1)[0] + ".weight"
        # some checkpoints name their tensors without the body's prefix
        other = theirs.get(weight) or theirs.get(weight.partition(".")[2])
        if other is None and _is_in_layers(weight, OUTPUT_LAYERS):
            continue
        if other is None or other.shape[side] != info.shape[side]:
            raise ConfigurationError(
                f"the adapter has {tensor} of shape {list(info.shape)}, but its base has "
                f"{_describe_tensor(other)} at {weight}",
                cause="it was trained on another model",
                hint="name the right base with --reference",
            )
