"""The GitHub Action: inputs become arguments of `antidote-ci`, and its report becomes outputs of the step.

Uses the standard library and `antidote_ci.environment` only: the Action calls the command line as users do.
"""
