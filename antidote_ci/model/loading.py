"""Checked files in, a model and its tokenizer ready to run out. Called in the child process only."""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.checkpoint.files import display_name, loadable, sha256_file
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.model.adapters import merge_adapter, require_complete, require_same_copies
from antidote_ci.records import Model

if TYPE_CHECKING:
    import torch

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
"""Used, and said, when a model brings no chat template."""
PLAIN_TEMPLATES = (PLAIN_TEMPLATE, "{{ bos_token }}" + PLAIN_TEMPLATE)
"""The second for a tokenizer that begins every text with a token: what it was trained with."""


def select_device_and_dtype() -> tuple[str, "torch.dtype"]:
    """A GPU in bfloat16; a CPU in bfloat16 where it computes in it, else in float32."""
    import torch

    if torch.cuda.is_available():
        return "cuda", torch.bfloat16
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "cpu", torch.bfloat16 if native else torch.float32


def load_tokenizer(model: Model) -> Any:  # noqa: ANN401 - transformers is untyped
    """The tokenizer of the adapter's folder where it has one, else of the full checkpoint; pads on the left."""
    from transformers import AutoTokenizer

    folder = model.folder
    if model.adapter is not None and (model.adapter / "tokenizer_config.json").exists():
        folder = model.adapter
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ConfigurationError(
            f"the tokenizer in {display_name(folder)} names neither a padding nor an end token",
            hint="add eos_token to its tokenizer_config.json",
        )
    if tokenizer.chat_template is None:
        begins = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = PLAIN_TEMPLATES[begins]
    return tokenizer


def load_model(model: Model, *, merge: bool) -> Any:  # noqa: ANN401 - transformers is untyped
    """The causal language model in evaluation mode, on its device.

    With `merge` an adapter is added into the weights, in float32 before the cast, so that generation costs what the
    full model costs; without it the factors A and B stay modules of their own. Raises what `require_complete`
    and `require_same_copies` raise.
    """
    import torch
    from transformers import AutoModelForCausalLM

    require_complete(model)
    _cached_model.clear()  # two models may not fit
    device, dtype = select_device_and_dtype()
    merging = merge and model.adapter is not None
    try:
        network, loaded = AutoModelForCausalLM.from_pretrained(
            model.folder,
            dtype=torch.float32 if merging else dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
        )
        if loaded["mismatched_keys"]:
            raise wrong_shape_error(display_name(model.folder), *min(loaded["mismatched_keys"]))
        if loaded["missing_keys"]:
            raise missing_weights_error(display_name(model.folder), min(loaded["missing_keys"]))
        if model.adapter is not None:
            from peft import PeftModel

            require_same_copies(read_layout(model.adapter), network.get_parameter)
            network = PeftModel.from_pretrained(network, model.adapter, local_files_only=True)
            if merging:
                network = merge_adapter(network)
            for parameter in network.parameters():
                # Weights alone: in bfloat16 the frequencies of rotary positions would be other ones.
                parameter.data = parameter.data.to(dtype)
        return make_head_contiguous(network.to(device).eval())
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise does_not_fit_error(model) from error


def make_head_contiguous(network: Any) -> Any:  # noqa: ANN401
    """The network, whose output layer is given its inputs in one piece.

    The last columns of a batch are a view with gaps, for which the CPU would copy the layer's weights once a row.
    """

    def in_one_piece(_head: Any, inputs: "tuple[torch.Tensor, ...]") -> "tuple[torch.Tensor, ...]":  # noqa: ANN401
        return inputs[0].contiguous(), *inputs[1:]

    network.get_output_embeddings().register_forward_pre_hook(in_one_piece)
    return network


_cached_model: dict[tuple[tuple[str, int, int], ...], Any] = {}


def load_cached_model(model: Model) -> Any:  # noqa: ANN401 - transformers is untyped
    """The merged model, in memory until another is loaded: a run asks the same one several times."""
    key = tuple((str(path), *_state(path)) for path in files(model))
    if key not in _cached_model:
        network = load_model(model, merge=True)
        _cached_model[key] = network
    return _cached_model[key]


def missing_weights_error(model: str, parameter: str) -> ConfigurationError:
    """A checkpoint that is not whole. transformers would run it with random numbers in the gaps."""
    return ConfigurationError(
        f"{model} has no weights for {parameter}",
        cause="the checkpoint is incomplete, or its architecture is not what config.json says",
        hint="save the checkpoint anew with transformers",
    )


def wrong_shape_error(model: str, parameter: str, shape: Sequence[int], expected: Sequence[int]) -> ConfigurationError:
    """Weights and configuration are not of one model. transformers would run it with random numbers there."""
    return ConfigurationError(
        f"{parameter} in {model} has shape {list(shape)}, and config.json says {list(expected)}",
        cause="the configuration is that of another model",
        hint="save the checkpoint anew with transformers",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: an accelerator's, or what the CPU's allocator could get."""
    import torch

    said = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("allocate memory" in said or "not enough memory" in said)
    )


def does_not_fit_error(model: Model, what: str = "") -> InfrastructureError:
    """Memory ran out, and there is no smaller way."""
    return InfrastructureError(
        f"{display_name(model.folder)}{what} does not fit into this machine's memory",
        cause="the weights, and the longest prompts with their answers, must fit beside whatever else runs here",
        hint="a machine or GPU with more memory, shorter prompts, or a smaller max_new_tokens",
    )


def model_fingerprint(model: Model) -> str:
    """The sha256 in hex of every file that can decide an answer: its role, its relative path and its content."""
    lines = [[role, name, _sha256(path, *_state(path))] for path, (role, name) in files(model).items()]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def files(model: Model) -> dict[Path, tuple[str, str]]:
    """Each file that can decide an answer, with its role and its path relative to the folder of that role."""
    folders = {"model": model.folder} | ({"adapter": model.adapter} if model.adapter is not None else {})
    return {folder / name: (role, name) for role, folder in folders.items() for name in loadable(folder)}


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path, _size: int, _modified: int) -> str:
    # Read once in a process: a candidate is asked several times, and weights are large.
    return sha256_file(path)


def detect_instruction_set() -> str:
    """What the processor computes with: results in the last bit depend on it.

    Of two with equally wide vectors one may multiply bfloat16 by itself, or by tiles, and the other not.
    """
    import torch

    bfloat16 = sorted(name for name, there in torch.cpu.get_capabilities().items() if there and name.endswith("bf16"))
    return " ".join([torch.backends.cpu.get_cpu_capability(), *bfloat16])


def get_threads() -> int:
    """Threads of one operation."""
    import torch

    return torch.get_num_threads() if torch.get_num_threads() > 0 else os.cpu_count() or 1
