"""Which tensors a repair scores, and whether a reference fits the model."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import prod

from antidote_ci.checkpoint.adapter_config import A_ENDING, B_ENDING, BASE_ENDING, PREFIX
from antidote_ci.checkpoint.files import display_name, list_files
from antidote_ci.checkpoint.headers import TensorInfo
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.checkpoint.tensors import WEIGHT_DTYPES
from antidote_ci.checkpoint.tokenizers import is_embedding, read_vocabulary, require_embedding_rows
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, HEAD_PART, MetaModel
from antidote_ci.records import Model, RepairTarget, ScoredTensor, UntouchedWeights

OUTPUT_LAYERS = ("lm_head", "embed_out")

OUTSIDE = "embeddings and output layer: inputs are measured inside the decoder's blocks only"
VECTORS = "norms and biases: vectors, not matrices"
EXPERTS = "experts: no linear layer receives their inputs"
NO_LINEAR = "routers and other matrices that are no linear layer"
SAVED_WHOLE = "trained whole beside the adapter's factors (modules_to_save)"


def resolve_repair_target(model: Model) -> RepairTarget:
    """Return `adapter` for a LoRA adapter, whose factors are scored, else `delta`: the difference to the reference."""
    return "adapter" if model.adapter else "delta"


def list_scored(model: Model) -> tuple[list[ScoredTensor], list[UntouchedWeights]]:
    """List the matrices to score, and the other weights in groups. Runs no forward pass; called in the child process.

    Scored are the linear layers of the decoder's blocks, or the factors of an adapter on them. Raises
    ConfigurationError when there are none.
    """
    import torch

    meta_model = MetaModel(model, torch.bfloat16, "cpu")
    if model.adapter:
        return _list_factors(meta_model)
    infos = meta_model.layout.tensors
    matrices = [linear.tensor for block in meta_model.blocks for linear in meta_model.linear_layers(block)]
    scored, reasons = set(matrices), dict[str, str]()
    for block in meta_model.blocks:
        names = [name for name in meta_model.tensor_names(block) if name not in scored]
        reasons |= {name: _explain_untouched(name, infos[name]) for name in names}
    for part in (EMBEDDINGS_PART, HEAD_PART):
        names = list(meta_model.tensor_names(part))
        reasons |= {name: VECTORS if len(infos[name].shape) < 2 else OUTSIDE for name in names}
    return _to_scored(matrices, meta_model.layout), _group_untouched(reasons, infos)


def require_same_shapes(source: CheckpointLayout, reference: CheckpointLayout) -> None:
    """Raise ConfigurationError when the reference is an adapter, or a tensor of the model has another shape in it.

    Embeddings and output layer are not repaired: their rows, the vocabulary, may differ, and a tied output layer may
    be missing. The factors A [rank, in] and B [out, rank] of an adapter must fit the weight [out, in]. Reads headers.
    """
    if reference.kind != "full":
        raise ConfigurationError(
            f"the reference {display_name(reference.folder)} is an adapter",
            hint="name the full aligned checkpoint with --reference",
        )
    if source.kind == "adapter":
        _require_adapter_fits(source, reference)
        return
    for name, info in source.tensors.items():
        expected = reference.tensors.get(name)
        if expected is None and _is_output_layer(name):
            continue
        skip = 1 if is_embedding_or_output(name) else 0
        if expected is None or expected.shape[skip:] != info.shape[skip:]:
            raise ConfigurationError(
                f"the reference has {_describe_tensor(expected)} where the model has {name} of shape "
                f"{list(info.shape)}",
                cause="it is not the model that was fine-tuned",
                hint="name the right one with --reference",
            )


def require_same_vocabulary(model: CheckpointLayout, reference: CheckpointLayout) -> None:
    """Raise UnsafeCheckpoint when a token has another ID than in the reference's tokenizer.

    Fine-tuning adds tokens and never renumbers them. Nothing is compared when either has no readable vocabulary. The
    tokens of an adapter must have rows in the reference's embedding. Raises ConfigurationError for an adapter whose
    own embedding has another number of rows.
    """
    rows = reference.embedding_rows
    own_rows = model.embedding_rows if model.kind == "adapter" else None
    if None not in (own_rows, rows) and own_rows != rows:
        raise ConfigurationError(
            f"the adapter {display_name(model.folder)} has an embedding of {own_rows:,} tokens, and its base "
            f"{display_name(reference.folder)} one of {rows:,}",
            cause="tokens were added during its training, or the base is another one",
            hint="merge it into its base with peft's merge_and_unload, save the result, and run on it",
        )
    vocabulary = read_vocabulary(model.folder, list_files(model.folder))
    if vocabulary is None:
        return
    if model.kind == "adapter":
        require_embedding_rows(vocabulary, rows)
    aligned = read_vocabulary(reference.folder, list_files(reference.folder))
    expected = aligned.ordinary if aligned else {}
    for token, token_id in vocabulary.ordinary.items():
        expected_id = expected.get(token, token_id)
        if expected_id != token_id:
            raise UnsafeCheckpoint(
                f"{vocabulary.file} of {display_name(model.folder)} gives {token!r:.60} the ID {token_id:,}, and that "
                f"of the reference {display_name(reference.folder)} {expected_id:,}",
                cause="the vocabulary was renumbered, or the model was not made from this reference",
                hint="name the right one with --reference",
            )


def is_embedding_or_output(tensor: str) -> bool:
    """Return whether a tensor of a full checkpoint is the token embedding or a part of the output layer."""
    return is_embedding(tensor) or _is_output_layer(tensor)


def _list_factors(meta_model: MetaModel) -> tuple[list[ScoredTensor], list[UntouchedWeights]]:
    if meta_model.lora is None:
        raise ValueError("the model has no adapter")
    prefixes = tuple(f"{block}." for block in meta_model.blocks)
    modules = meta_model.lora.modules
    names = [name for path in modules if path.startswith(prefixes) for name in (modules[path].a, modules[path].b)]
    scored, infos = set(names), meta_model.lora.layout.tensors
    reasons = {
        name: OUTSIDE if name.endswith((A_ENDING, B_ENDING, BASE_ENDING)) else SAVED_WHOLE
        for name in infos
        if name not in scored
    }
    return _to_scored(names, meta_model.lora.layout), _group_untouched(reasons, infos)


def _to_scored(names: Iterable[str], layout: CheckpointLayout) -> list[ScoredTensor]:
    infos = layout.tensors
    scored = [ScoredTensor(name, *infos[name].shape) for name in names]
    if not scored:
        raise ConfigurationError(
            f"{display_name(layout.folder)} holds no linear layer that can be repaired",
            cause="no weight of its blocks is the weight of a linear layer",
            hint="report this architecture",
        )
    return scored


def _explain_untouched(name: str, info: TensorInfo) -> str:
    """Return why a tensor of a block is not scored."""
    if len(info.shape) < 2:
        return VECTORS
    return EXPERTS if len(info.shape) > 2 or ".experts." in name else NO_LINEAR


def _group_untouched(reasons: Mapping[str, str], infos: Mapping[str, TensorInfo]) -> list[UntouchedWeights]:
    """Group tensor names by reason; names that differ in a number only become one pattern."""
    patterns: dict[str, dict[str, None]] = defaultdict(dict)
    weights: dict[str, int] = defaultdict(int)
    for name, reason in reasons.items():
        if infos[name].dtype in WEIGHT_DTYPES:
            patterns[reason][re.sub(r"(?<=\.)\d+(?=\.)", "*", name)] = None
            weights[reason] += prod(infos[name].shape)
    return [UntouchedWeights(", ".join(patterns[reason]), reason, weights[reason]) for reason in patterns]


def _is_output_layer(tensor: str) -> bool:
    return any(part in OUTPUT_LAYERS for part in tensor.split("."))


def _describe_tensor(info: TensorInfo | None) -> str:
    return "no such tensor" if info is None else f"shape {list(info.shape)}"


def _require_adapter_fits(source: CheckpointLayout, reference: CheckpointLayout) -> None:
    weights = reference.tensors
    for name, info in source.tensors.items():
        if not name.endswith((A_ENDING, B_ENDING)):
            continue
        dimension = 1 if name.endswith(A_ENDING) else 0
        weight = name.removeprefix(PREFIX).rsplit(".lora_", 1)[0] + ".weight"
        # Some checkpoints name their tensors without the prefix of the base model.
        expected = weights.get(weight) or weights.get(weight.partition(".")[2])
        if expected is None and _is_output_layer(weight):
            continue
        if expected is None or expected.shape[dimension] != info.shape[dimension]:
            raise ConfigurationError(
                f"the adapter has {name} of shape {list(info.shape)}, but its base has "
                f"{_describe_tensor(expected)} at {weight}",
                cause="it was trained on another model",
                hint="name the right base with --reference",
            )
