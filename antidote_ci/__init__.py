"""CI gate for fine-tuned language models: evaluate a Hub model on harmful prompts, repair its weights, publish them."""

__version__ = "0.1.0"
