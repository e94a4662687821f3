"""The GitHub Action: inputs become arguments of `antidote-ci`, and its report becomes outputs of the step.

Uses the standard library, and of antidote_ci only `environment` and `paths`: it calls the command line as users do.
"""
