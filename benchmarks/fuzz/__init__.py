"""Changed headers, indexes and checkpoints, as the checks read them: `python -m benchmarks.fuzz`."""
