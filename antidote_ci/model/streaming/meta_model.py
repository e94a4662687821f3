"""A causal language model on the meta device, whose weights are loaded from its shards one part at a time."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import DType, Network, Tensor
from antidote_ci.model.adapters import LoraFactors, require_same_copies
from antidote_ci.model.loading import (
    make_head_contiguous,
    missing_weights_error,
    use_deterministic_kernels,
    wrong_shape_error,
)
from antidote_ci.model.streaming import weights
from antidote_ci.model.streaming.weights import LazyTensor, LoraAdapter, ParameterSource
from antidote_ci.records import Model

EMBEDDINGS_PART = "embeddings"
"""The parameters of the decoder outside its blocks (embeddings, last normalisation), and those tied to them."""
HEAD_PART = "head"
"""The parameters outside the decoder: the output layer, if it is not tied to the embeddings."""

InputCallback = Callable[[str, Tensor], None]
"""Called with the name of a factor's tensor and the inputs [..., columns] that it is applied to."""


@dataclass(frozen=True)
class LinearLayer:
    """The path of a linear layer in a block, and the name of the tensor that is its weight, unchanged."""

    path: str
    tensor: str


class MetaModel:
    """The network of a checkpoint without weights. A part has its weights in the context of `load_weights`.

    Weights do not require gradients unless the caller sets it. An adapter's `modules_to_save` and its factors outside
    the blocks are loaded with the part; its factors in a block are added by `attach_adapter`.
    """

    def __init__(self, model: Model, dtype: DType, device: str, halfway_to: Path | None = None) -> None:
        """With `halfway_to`, the model's reference, the weights are the mean of the two, except `modules_to_save`.

        Raises ConfigurationError when the decoder's blocks cannot be found, and the errors of `require_same_copies`.
        """
        from transformers.conversion_mapping import get_model_conversion_mapping

        model.require_unedited()
        self.layout = read_layout(model.folder)
        """The full checkpoint; for an adapter, its base."""
        self.full_model = replace(model, adapter=None)
        strength = 0.5 if halfway_to else 1.0
        self.lora: LoraAdapter | None = (
            weights.read_lora(read_layout(model.adapter), strength) if model.adapter else None
        )
        self.dtype, self.device = dtype, device
        if device == "cuda":
            use_deterministic_kernels()
        self.network: Network = _build_meta_network(model, dtype, device)
        self.blocks = _find_blocks(self.network)
        """Paths of the decoder's blocks, first to last."""
        self._body_path = self.blocks[0].partition(".")[0]
        self.body: Network = self.network.get_submodule(self._body_path)
        self._meta_parameters: dict[str, Network] = dict(self.network.named_parameters(remove_duplicate=False))
        self._conversions = get_model_conversion_mapping(self.network)
        self._dtype_plan = self.network._get_dtype_plan(dtype)
        sources = weights.build_weight_map(self.network, self._conversions, self.layout)
        if halfway_to and not model.adapter:
            reference = read_layout(halfway_to)
            sources = {
                name: replace(source, tensor=replace(source.tensor, averaged_with=reference))
                for name, source in sources.items()
            }
        if self.lora:
            sources = weights.add_saved_modules(self.network, sources, self.lora)
        self._ties = weights.find_tied_parameters(self.network, sources)
        if self.lora:
            tensors = {source.parameter: source.tensor for source in sources.values()}
            require_same_copies(self.lora.layout, lambda path: tensors[self._ties.get(path, path)].read())
        self._sources: dict[str, dict[str, ParameterSource]] = defaultdict(dict)
        """By part, then by the name that the loader uses."""
        for name, source in sources.items():
            self._sources[self._part_of(source.parameter)][name] = source
        self._parameters: dict[str, list[str]] = defaultdict(list)
        for path in self._meta_parameters:
            self._parameters[self._part_of(path)].append(path)

    def tensor_names(self, part: str) -> list[str]:
        """The tensors of the full checkpoint from which a part is loaded."""
        return [source.tensor.name for source in self._sources[part].values() if source.tensor.layout is self.layout]

    def linear_layers(self, block: str) -> list[LinearLayer]:
        """The linear layers of a block whose weights are tensors of the full checkpoint, unchanged."""
        import torch

        layers = []
        for source in self._sources[block].values():
            path, _, leaf = source.parameter.rpartition(".")
            unchanged = leaf == "weight" and not source.converted and source.tensor.layout is self.layout
            if unchanged and isinstance(self.network.get_submodule(path), torch.nn.Linear):
                layers.append(LinearLayer(path, source.tensor.name))
        return layers

    def attends_by_mask(self, longest: int) -> bool:
        """Whether tokens of rows of at most `longest` tokens see others through attention alone, by mask and position.

        Then several texts can stand in one row. Not so for recurrent layers, for positions that are counted from the
        first column, and for a window that is shorter than a row.
        """
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

        if not hasattr(self.body, "rotary_emb"):
            return False
        layers = DynamicCache(config=self.network.config).layers
        windows = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
        return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers) and all(
            window > longest for window in windows
        )

    @property
    def vocabulary(self) -> int:
        """The number of tokens that the network knows."""
        size: int = self.network.config.get_text_config().vocab_size
        return size

    def require_positions(self, rows: Sequence[Sequence[int]]) -> None:
        """Raise ConfigurationError that names the first row with more tokens than the model has positions."""
        limit = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        for number, row in enumerate(rows, 1):
            if limit is not None and len(row) > limit:
                raise ConfigurationError(
                    f"row {number} has {len(row)} tokens, and {display_name(self.layout.folder)} reads at most {limit}",
                    cause="this is the value of max_position_embeddings in its config.json",
                    hint="shorten the row or leave it out",
                )

    @contextmanager
    def load_weights(self, *parts: str) -> Iterator[None]:
        """In the context, the given parts have their weights.

        Raises ConfigurationError when weights are missing or of another shape than config.json says.
        """
        with ExitStack() as adapters:
            try:
                for part in parts:
                    self._load_part(part)
                    if self.lora and part in (EMBEDDINGS_PART, HEAD_PART):
                        for path in self.lora.modules:
                            if self._part_of(path) == part:
                                adapters.enter_context(self.attach_adapter(path))
                yield
            finally:
                for part in parts:
                    for path in self._parameters[part]:
                        _set_tensor(self.network, path, self._meta_parameters[path])

    @contextmanager
    def attach_adapter(self, part: str, on_input: InputCallback | None = None) -> Iterator[dict[str, Tensor]]:
        """In the context, the linear layers of the module `part` compute W x + s B (A x), as with peft.

        Yields the factors by tensor name; none without an adapter. They are looked up at each call, so gradients with
        respect to the yielded tensors can be taken.
        """
        from torch.nn.functional import linear

        factors: dict[str, Tensor] = {}
        if self.lora is None:
            yield factors
            return

        def add(names: LoraFactors, _module: Network, inputs: Any, output: Tensor) -> Tensor:  # noqa: ANN401
            inner = linear(inputs[0], factors[names.a])
            if on_input is not None:
                on_input(names.a, inputs[0])
                on_input(names.b, inner)
            return output + linear(inner, factors[names.b]) * names.scaling

        handles = []
        try:
            for path, names in self.lora.modules.items():
                if f"{path}.".startswith(f"{part}."):
                    for name in (names.a, names.b):
                        factor = LazyTensor(self.lora.layout, name).read()
                        factors[name] = factor.to(device=self.device, dtype=self.dtype)
                    handles.append(self.network.get_submodule(path).register_forward_hook(partial(add, names)))
            yield factors
        finally:
            for handle in handles:
                handle.remove()

    def _load_part(self, part: str) -> None:
        from torch.nn import Parameter

        through_loader = {}
        for name, source in self._sources[part].items():
            meta = self._meta_parameters.get(source.parameter)
            if meta is None or source.converted or self._dtype_plan:
                through_loader[name] = source.tensor
                continue
            # The loader would give the same tensor, but it lists all tensors of the network for each block.
            tensor = source.tensor.read()
            if tensor.shape != meta.shape:
                raise wrong_shape_error(display_name(self.layout.folder), source.parameter, tensor.shape, meta.shape)
            loaded = Parameter(tensor.to(device=self.device, dtype=meta.dtype), requires_grad=False)
            _set_tensor(self.network, source.parameter, loaded)
        if through_loader:
            self._load_converted(through_loader)
        for path in self._parameters[part]:
            parameter = self.network.get_parameter(self._ties.get(path, path))
            if parameter.is_meta:
                raise missing_weights_error(display_name(self.layout.folder), path)
            _set_tensor(self.network, path, parameter.requires_grad_(requires_grad=False))

    def _load_converted(self, tensors: dict[str, LazyTensor]) -> None:
        """Load tensors that transformers stacks, splits or transposes, or keeps in another dtype."""
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        loaded, _ = convert_and_load_state_dict_in_model(
            self.network,
            tensors,
            LoadStateDictConfig(
                dtype=self.dtype,
                dtype_plan=self._dtype_plan,
                device_map={"": self.device},
                weight_mapping=self._conversions,
            ),
        )
        if loaded.mismatched_keys:
            raise wrong_shape_error(display_name(self.layout.folder), *min(loaded.mismatched_keys))

    def _part_of(self, path: str) -> str:
        if path in self._ties or path in self._ties.values():
            return EMBEDDINGS_PART
        for block in self.blocks:
            if path.startswith(f"{block}."):
                return block
        return EMBEDDINGS_PART if path.startswith(f"{self._body_path}.") else HEAD_PART


def _build_meta_network(model: Model, dtype: DType, device: str) -> Network:
    """The network as transformers builds it, with parameters on the meta device and buffers computed on `device`."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # the loader would show one for each part
    config = AutoConfig.from_pretrained(model.folder, local_files_only=True, trust_remote_code=False)
    with init_empty_weights(include_buffers=False), no_init_weights():
        network = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    network.tie_weights(recompute_mapping=False)
    for module in network.modules():
        has_weights_only = not any(module.children()) and not any(True for _ in module.buffers())
        module._is_hf_initialized = has_weights_only
    network.initialize_weights()  # computes the buffers again, as the loader does: until here they were in `dtype`
    for path, buffer in list(network.named_buffers()):
        _set_tensor(network, path, buffer.to(device))
    return make_head_contiguous(network.eval().requires_grad_(requires_grad=False))


def _find_blocks(network: Network) -> list[str]:
    import torch

    depth = network.config.get_text_config().num_hidden_layers
    for path, module in network.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            return [f"{path}.{number}" for number in range(depth)]
    raise ConfigurationError(
        f"the decoder blocks of {type(network).__name__} cannot be found",
        cause="it has no list of modules with num_hidden_layers entries",
        hint="report this architecture",
    )


def _set_tensor(network: Network, path: str, tensor: Tensor) -> None:
    """Set a parameter or a buffer directly: torch's own assignment rejects a tensor of another device."""
    owner, _, leaf = path.rpartition(".")
    module = network.get_submodule(owner)
    table = module._parameters if leaf in module._parameters else module._buffers
    table[leaf] = tensor
