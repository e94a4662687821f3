"""Checked files in, a model and its tokenizer ready to run out. Called in the child process only."""

import os
from typing import TYPE_CHECKING, Any

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.records import Model

if TYPE_CHECKING:
    import torch

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
"""Used, and said, when a model brings no chat template."""


def device_and_dtype() -> tuple[str, "torch.dtype"]:
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
            f"the tokenizer in {folder.name} names neither a padding nor an end token",
            hint="add eos_token to its tokenizer_config.json",
        )
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def load_model(model: Model, *, merge: bool) -> Any:  # noqa: ANN401 - transformers is untyped
    """The causal language model in evaluation mode, on its device.

    With `merge` an adapter is added into the weights, in float32 before the cast, so that generation costs what the
    full model costs; without it the factors A and B stay modules of their own.
    """
    import torch
    from transformers import AutoModelForCausalLM

    device, dtype = device_and_dtype()
    merging = merge and model.adapter is not None
    try:
        network = AutoModelForCausalLM.from_pretrained(
            model.folder,
            dtype=torch.float32 if merging else dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
        if model.adapter is not None:
            from peft import PeftModel

            network = PeftModel.from_pretrained(network, model.adapter, local_files_only=True)
            if merging:
                network = network.merge_and_unload()
        return network.to(device=device, dtype=dtype).eval()
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise InfrastructureError(
            f"{model.folder.name} does not fit into this machine's memory",
            cause=str(error),
            hint="a machine with more memory",
        ) from error


def instruction_set() -> str:
    """What the processor computes with: results in the last bit depend on it."""
    import torch

    return torch.backends.cpu.get_cpu_capability()


def threads() -> int:
    """Threads of one operation."""
    import torch

    return torch.get_num_threads() if torch.get_num_threads() > 0 else os.cpu_count() or 1
