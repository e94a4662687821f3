"""HF Jobs: the same image and arguments, run on the Hub's machines."""
