"""How peft names the tensors in an adapter's files: `base_model.model.<path of the layer>.lora_A.weight`."""

PREFIX = "base_model.model."
A_ENDING, B_ENDING = ".lora_A.weight", ".lora_B.weight"
BASE_ENDING = ".base_layer.weight"
"""A copy of the weight that the factors stand beside: peft saves it with those of an output layer."""
