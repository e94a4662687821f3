"""Measurements outside the tests: one folder and one command each."""
