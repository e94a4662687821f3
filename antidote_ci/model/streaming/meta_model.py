"""A causal language model without weights, whose parts are filled from its shards one at a time and emptied again."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.checkpoint.files import shown
from antidote_ci.checkpoint.layout import inspect
from antidote_ci.errors import ConfigurationError
from antidote_ci.model.adapters import require_same_copies, require_whole
from antidote_ci.model.loading import missing_weights, with_fast_head, wrong_shape
from antidote_ci.model.streaming.lora import Lora, beside, read_lora
from antidote_ci.model.streaming.weight_map import Place, find_places, find_ties, with_saved
from antidote_ci.records import Model

if TYPE_CHECKING:
    import torch

ENTRANCE = "entrance"
"""What the decoder's body has outside its blocks: embeddings, the last normalisation; and what is tied to them."""
HEAD = "head"
"""What the model has outside its body: the output layer, where it is not tied to the embeddings."""


@dataclass(frozen=True)
class Linear:
    """A linear layer of a block, and the tensor of the files that is its weight, unchanged."""

    path: str
    tensor: str


class Skeleton:
    """The network of a checkpoint on the meta device; `filled` lends a part of it its weights.

    Weights ask for no gradients; who wants them says so. An adapter's `modules_to_save`, and its factors outside the
    blocks, come with the part; its factors in a block are added by `lora.beside`.
    """

    def __init__(self, model: Model, dtype: "torch.dtype", device: str, halfway_to: Path | None = None) -> None:
        """With `halfway_to`, the model's reference, it is the network in the middle between the two.

        What an adapter saved whole is not halved. Raises ConfigurationError where the decoder's blocks cannot be found,
        and what `require_whole` and `require_same_copies` raise.
        """
        from transformers.conversion_mapping import get_model_conversion_mapping

        self.layout = inspect(model.folder)
        """The full checkpoint: the base, of an adapter."""
        strength = 0.5 if halfway_to else 1.0
        self.lora: Lora | None = read_lora(inspect(model.adapter), strength) if model.adapter else None
        self.dtype, self.device = dtype, device
        self.network: Any = _without_weights(model, dtype, device)
        self.blocks = _find_blocks(self.network)
        """Paths of the decoder's blocks, first to last."""
        self._body_path = self.blocks[0].partition(".")[0]
        self.body: Any = self.network.get_submodule(self._body_path)
        self._empty: dict[str, Any] = dict(self.network.named_parameters(remove_duplicate=False))
        self._conversions = get_model_conversion_mapping(self.network)
        places = find_places(self.network, self._conversions, self.layout)
        if halfway_to and not model.adapter:
            other = inspect(halfway_to)
            places = {name: replace(place, stored=replace(place.stored, other=other)) for name, place in places.items()}
        if self.lora:
            places = with_saved(self.network, places, self.lora)
            require_whole(model)
        self._ties = find_ties(self.network, places)
        if self.lora:
            placed = {place.parameter: place.stored for place in places.values()}
            require_same_copies(self.lora.layout, lambda path: placed[self._ties.get(path, path)].read())
        self._places: dict[str, dict[str, Place]] = defaultdict(dict)
        """By part, and in it by the name that the loader knows."""
        for name, place in places.items():
            self._places[self._part_of(place.parameter)][name] = place
        self._parameters: dict[str, list[str]] = defaultdict(list)
        for path in self._empty:
            self._parameters[self._part_of(path)].append(path)

    def block(self, path: str) -> Any:  # noqa: ANN401 - transformers is untyped
        """The module of a block."""
        return self.network.get_submodule(path)

    def names(self, part: str) -> list[str]:
        """The files' tensors that a part is filled from."""
        return [place.stored.name for place in self._places[part].values() if place.stored.layout is self.layout]

    def linears(self, block: str) -> list[Linear]:
        """The linear layers of a block whose weights lie in the files as they are used."""
        import torch

        found = []
        for place in self._places[block].values():
            path, _, leaf = place.parameter.rpartition(".")
            plain = leaf == "weight" and not place.changed and place.stored.layout is self.layout
            if plain and isinstance(self.network.get_submodule(path), torch.nn.Linear):
                found.append(Linear(path, place.stored.name))
        return found

    def require_room(self, rows: Sequence[Sequence[int]]) -> None:
        """Raise ConfigurationError naming the first row with more tokens than the model has positions for."""
        most = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        for number, row in enumerate(rows, 1):
            if most is not None and len(row) > most:
                raise ConfigurationError(
                    f"row {number} has {len(row)} tokens, and {shown(self.layout.folder)} reads at most {most}",
                    cause="its config.json sets max_position_embeddings to that",
                    hint="shorten the row or leave it out",
                )

    @contextmanager
    def filled(self, *parts: str) -> Iterator[None]:
        """Within it, the named parts have their weights.

        Raises ConfigurationError where weights are missing, not finite, or of another shape than config.json says.
        """
        with ExitStack() as adapted:
            try:
                for part in parts:
                    self._fill(part)
                    self._add_factors(part, adapted)
                yield
            finally:
                for part in parts:
                    for path in self._parameters[part]:
                        _put(self.network, path, self._empty[path])

    def _fill(self, part: str) -> None:
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        loaded, _ = convert_and_load_state_dict_in_model(
            self.network,
            {name: place.stored for name, place in self._places[part].items()},
            LoadStateDictConfig(
                dtype=self.dtype,
                dtype_plan=self.network._get_dtype_plan(self.dtype),
                device_map={"": self.device},
                weight_mapping=self._conversions,
            ),
        )
        if loaded.mismatched_keys:
            raise wrong_shape(shown(self.layout.folder), *min(loaded.mismatched_keys))
        for path in self._parameters[part]:
            parameter = self.network.get_parameter(self._ties.get(path, path))
            if parameter.is_meta:
                raise missing_weights(shown(self.layout.folder), path)
            _put(self.network, path, parameter.requires_grad_(requires_grad=False))

    def _add_factors(self, part: str, within: ExitStack) -> None:
        if self.lora and part in (ENTRANCE, HEAD):
            for path in self.lora.modules:
                if self._part_of(path) == part:
                    within.enter_context(beside(self.network, self.lora, path, self.dtype, self.device))

    def _part_of(self, path: str) -> str:
        if path in self._ties or path in self._ties.values():
            return ENTRANCE
        for block in self.blocks:
            if path.startswith(f"{block}."):
                return block
        return ENTRANCE if path.startswith(f"{self._body_path}.") else HEAD


def _without_weights(model: Model, dtype: "torch.dtype", device: str) -> Any:  # noqa: ANN401
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
        _put(network, path, buffer.to(device))
    return with_fast_head(network.eval().requires_grad_(requires_grad=False))


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


def _put(network: Any, path: str, tensor: Any) -> None:  # noqa: ANN401
    """Set a parameter or a buffer, past the check that keeps a tensor of another device out."""
    owner, _, leaf = path.rpartition(".")
    module = network.get_submodule(owner)
    table = module._parameters if leaf in module._parameters else module._buffers
    table[leaf] = tensor
