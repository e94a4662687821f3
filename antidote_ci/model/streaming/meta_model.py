"""A causal language model without weights, whose parts are filled from its shards one at a time and emptied again."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.errors import ConfigurationError
from antidote_ci.model.adapters import require_complete, require_same_copies
from antidote_ci.model.loading import make_head_contiguous, missing_weights_error, wrong_shape_error
from antidote_ci.model.streaming.lora import LoraAdapter, attach_lora, read_lora
from antidote_ci.model.streaming.weight_map import (
    ParameterSource,
    add_saved_modules,
    build_weight_map,
    find_tied_parameters,
)
from antidote_ci.records import Model

if TYPE_CHECKING:
    import torch

EMBEDDINGS_PART = "entrance"
"""What the decoder's body has outside its blocks: embeddings, the last normalisation; and what is tied to them."""
HEAD_PART = "head"
"""What the model has outside its body: the output layer, where it is not tied to the embeddings."""


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer of a block, and the tensor of the files that is its weight, unchanged."""

    path: str
    tensor: str


class MetaModel:
    """The network of a checkpoint on the meta device; `filled` lends a part of it its weights.

    Weights ask for no gradients; who wants them says so. An adapter's `modules_to_save`, and its factors outside the
    blocks, come with the part; its factors in a block are added by `lora.attach_lora`.
    """

    def __init__(self, model: Model, dtype: "torch.dtype", device: str, halfway_to: Path | None = None) -> None:
        """With `halfway_to`, the model's reference, it is the network in the middle between the two.

        What an adapter saved whole is not halved. Raises ConfigurationError where the decoder's blocks cannot be found,
        and what `require_complete` and `require_same_copies` raise.
        """
        from transformers.conversion_mapping import get_model_conversion_mapping

        self.layout = read_layout(model.folder)
        """The full checkpoint: the base, of an adapter."""
        strength = 0.5 if halfway_to else 1.0
        self.lora: LoraAdapter | None = read_lora(read_layout(model.adapter), strength) if model.adapter else None
        self.dtype, self.device = dtype, device
        self.network: Any = _build_meta_network(model, dtype, device)
        self.blocks = _find_blocks(self.network)
        """Paths of the decoder's blocks, first to last."""
        self._body_path = self.blocks[0].partition(".")[0]
        self.body: Any = self.network.get_submodule(self._body_path)
        self._empty: dict[str, Any] = dict(self.network.named_parameters(remove_duplicate=False))
        self._conversions = get_model_conversion_mapping(self.network)
        places = build_weight_map(self.network, self._conversions, self.layout)
        if halfway_to and not model.adapter:
            other = read_layout(halfway_to)
            places = {
                name: replace(place, tensor=replace(place.tensor, averaged_with=other))
                for name, place in places.items()
            }
        if self.lora:
            places = add_saved_modules(self.network, places, self.lora)
            require_complete(model)
        self._ties = find_tied_parameters(self.network, places)
        if self.lora:
            placed = {place.parameter: place.tensor for place in places.values()}
            require_same_copies(self.lora.layout, lambda path: placed[self._ties.get(path, path)].read())
        self._places: dict[str, dict[str, ParameterSource]] = defaultdict(dict)
        """By part, and in it by the name that the loader knows."""
        for name, place in places.items():
            self._places[self._part_of(place.parameter)][name] = place
        self._parameters: dict[str, list[str]] = defaultdict(list)
        for path in self._empty:
            self._parameters[self._part_of(path)].append(path)

    def get_block(self, path: str) -> Any:  # noqa: ANN401 - transformers is untyped
        """The module of a block."""
        return self.network.get_submodule(path)

    def tensor_names(self, part: str) -> list[str]:
        """The files' tensors that a part is filled from."""
        return [place.tensor.name for place in self._places[part].values() if place.tensor.layout is self.layout]

    def linear_layers(self, block: str) -> list[LinearLayer]:
        """The linear layers of a block whose weights lie in the files as they are used."""
        import torch

        found = []
        for place in self._places[block].values():
            path, _, leaf = place.parameter.rpartition(".")
            plain = leaf == "weight" and not place.changed and place.tensor.layout is self.layout
            if plain and isinstance(self.network.get_submodule(path), torch.nn.Linear):
                found.append(LinearLayer(path, place.tensor.name))
        return found

    def require_positions(self, rows: Sequence[Sequence[int]]) -> None:
        """Raise ConfigurationError naming the first row with more tokens than the model has positions for."""
        most = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        for number, row in enumerate(rows, 1):
            if most is not None and len(row) > most:
                raise ConfigurationError(
                    f"row {number} has {len(row)} tokens, and {display_name(self.layout.folder)} reads at most {most}",
                    cause="its config.json sets max_position_embeddings to that",
                    hint="shorten the row or leave it out",
                )

    @contextmanager
    def load_weights(self, *parts: str) -> Iterator[None]:
        """Within it, the named parts have their weights.

        Raises ConfigurationError where weights are missing, not finite, or of another shape than config.json says.
        """
        with ExitStack() as adapted:
            try:
                for part in parts:
                    self._load_part(part)
                    self._add_factors(part, adapted)
                yield
            finally:
                for part in parts:
                    for path in self._parameters[part]:
                        _set_tensor(self.network, path, self._empty[path])

    def _load_part(self, part: str) -> None:
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        loaded, _ = convert_and_load_state_dict_in_model(
            self.network,
            {name: place.tensor for name, place in self._places[part].items()},
            LoadStateDictConfig(
                dtype=self.dtype,
                dtype_plan=self.network._get_dtype_plan(self.dtype),
                device_map={"": self.device},
                weight_mapping=self._conversions,
            ),
        )
        if loaded.mismatched_keys:
            raise wrong_shape_error(display_name(self.layout.folder), *min(loaded.mismatched_keys))
        for path in self._parameters[part]:
            parameter = self.network.get_parameter(self._ties.get(path, path))
            if parameter.is_meta:
                raise missing_weights_error(display_name(self.layout.folder), path)
            _set_tensor(self.network, path, parameter.requires_grad_(requires_grad=False))

    def _add_factors(self, part: str, within: ExitStack) -> None:
        if self.lora and part in (EMBEDDINGS_PART, HEAD_PART):
            for path in self.lora.modules:
                if self._part_of(path) == part:
                    within.enter_context(attach_lora(self.network, self.lora, path, self.dtype, self.device))

    def _part_of(self, path: str) -> str:
        if path in self._ties or path in self._ties.values():
            return EMBEDDINGS_PART
        for block in self.blocks:
            if path.startswith(f"{block}."):
                return block
        return EMBEDDINGS_PART if path.startswith(f"{self._body_path}.") else HEAD_PART


def _build_meta_network(model: Model, dtype: "torch.dtype", device: str) -> Any:  # noqa: ANN401
    """The network as transformers would build it: parameters on the meta device, buffers computed and on `device`."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # its loader would show one for each part that is filled
    config = AutoConfig.from_pretrained(model.folder, local_files_only=True, trust_remote_code=False)
    with init_empty_weights(include_buffers=False):
        network = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    for module in network.modules():
        module._is_hf_initialized = False
    network.initialize_weights()  # buffers once more, as its loader does: until here they were computed in `dtype`
    for path, buffer in list(network.named_buffers()):
        _set_tensor(network, path, buffer.to(device))
    return make_head_contiguous(network.eval().requires_grad_(requires_grad=False))


def _find_blocks(network: Any) -> list[str]:  # noqa: ANN401
    import torch

    depth = network.config.get_text_config().num_hidden_layers
    for path, module in network.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            return [f"{path}.{number}" for number in range(depth)]
    raise ConfigurationError(
        f"the decoder blocks of {type(network).__name__} cannot be found",
        cause="no list of modules in it is as long as num_hidden_layers",
        hint="report this architecture",
    )


def _set_tensor(network: Any, path: str, tensor: Any) -> None:  # noqa: ANN401
    """Set a parameter or a buffer, past the check that keeps a tensor of another device out."""
    owner, _, leaf = path.rpartition(".")
    module = network.get_submodule(owner)
    table = module._parameters if leaf in module._parameters else module._buffers
    table[leaf] = tensor
