"""Model execution in the sandbox process: loading, generation, statistics and gradients.

The parent process imports these modules to name their functions, so torch is imported inside functions only.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch import dtype as DType
else:
    DType = Generator = Tensor = Any

__all__ = ["DType", "Generator", "Network", "Tensor", "Tokenizer"]

Network = Any
"""A causal language model of transformers, whose classes have no type hints."""
Tokenizer = Any
"""A tokenizer of transformers."""
