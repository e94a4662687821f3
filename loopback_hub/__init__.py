"""A small Hugging Face Hub on 127.0.0.1 that stores its repositories in a folder, for the demo and the tests.

Transfers by Xet are a variant (strictness.py).

Set the variables of `LoopbackHub.environment` before `huggingface_hub` is imported.
"""

from loopback_hub.server import LoopbackHub

__all__ = ["LoopbackHub"]
