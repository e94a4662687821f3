"""Model execution in the sandbox process: loading, generation, statistics and gradients."""

from typing import Any

Network = Any
"""A causal language model of transformers, whose classes have no type hints."""
Tokenizer = Any
"""A tokenizer of transformers."""
