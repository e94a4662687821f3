"""Headers and indexes that lie, by the million: `python -m benchmarks.fuzz`."""
