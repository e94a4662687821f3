"""Which tensors a repair scores, and the module each one's inputs were measured at. Headers only."""

from dataclasses import dataclass

from antidote_ci.checkpoint.layout import Layout
from antidote_ci.errors import ConfigurationError
from antidote_ci.records import Target

FACTOR_ENDINGS = (".lora_A.weight", ".lora_B.weight")
EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "lm_head", "embed_out")


@dataclass(frozen=True)
class Scored:
    """One tensor [rows, columns] and the name of the linear layer it belongs to in the network that ran."""

    tensor: str
    module: str
    rows: int
    columns: int


def target_of(source: Layout) -> Target:
    """Adapters are repaired as adapters, full checkpoints against their reference."""
    return "adapter" if source.kind == "adapter" else "delta"


def scored_tensors(source: Layout) -> list[Scored]:
    """Every matrix of a linear layer: an adapter's factors, or a checkpoint's weights without embeddings."""
    found = []
    for tensor, info in source.tensors.items():
        if len(info.shape) != 2:
            continue
        if source.kind == "adapter":
            if tensor.endswith(FACTOR_ENDINGS):
                # peft names the factors of its one loaded adapter `default`
                module = tensor.removesuffix(".weight") + ".default"
                found.append(Scored(tensor, module, *info.shape))
        elif tensor.endswith(".weight") and not any(part in tensor for part in EMBEDDINGS):
            found.append(Scored(tensor, tensor.removesuffix(".weight"), *info.shape))
    if not found:
        raise ConfigurationError(f"{source.folder.name} holds no linear layer that can be repaired")
    return found


def require_same_shapes(source: Layout, reference: Layout) -> None:
    """Raises ConfigurationError naming the first tensor of a full checkpoint that its reference has otherwise.

    An adapter must fit its reference: A [rank, in] and B [out, rank] around a weight [out, in].
    """
    if reference.kind != "full":
        raise ConfigurationError(
            f"the reference {reference.folder.name} is an adapter",
            hint="name the full aligned checkpoint with --reference",
        )
    if source.kind == "adapter":
        _require_adapter_fits(source, reference)
        return
    for tensor, info in source.tensors.items():
        other = reference.tensors.get(tensor)
        if other is None or other.shape != info.shape:
            found = "no such tensor" if other is None else f"shape {list(other.shape)}"
            raise ConfigurationError(
                f"the reference has {found} where the model has {tensor} of shape {list(info.shape)}",
                cause="it is not the model that was fine-tuned",
                hint="name the right one with --reference",
            )


def _require_adapter_fits(source: Layout, reference: Layout) -> None:
    for tensor, info in source.tensors.items():
        if not tensor.endswith(FACTOR_ENDINGS):
            continue
        factor_a = tensor.endswith(FACTOR_ENDINGS[0])
        weight = tensor.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] + ".weight"
        other = reference.tensors.get(weight)
        if other is None or other.shape[1 if factor_a else 0] != info.shape[1 if factor_a else 0]:
            found = "no such tensor" if other is None else f"shape {list(other.shape)}"
            raise ConfigurationError(
                f"the adapter has {tensor} of shape {list(info.shape)}, but its base has {found} at {weight}",
                cause="it was trained on another model",
                hint="name the right base with --reference",
            )
