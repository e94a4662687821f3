"""Safetensors checkpoints on disk: checks of untrusted files, single tensors, and a crash-safe writer."""
