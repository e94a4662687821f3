"""Antidote rerun: attacks, the defences that its paper names, and every repair of the package, at a scale of minutes.

https://arxiv.org/abs/2408.09600. `python -m benchmarks.paper --help`
"""
