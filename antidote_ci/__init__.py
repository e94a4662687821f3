"""Measure, repair and publish fine-tuned language models whose safety was undone."""

__version__ = "0.1.0"
