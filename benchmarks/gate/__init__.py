"""The statistics of the gate, by simulation and enumeration: `python -m benchmarks.gate`."""
