"""The GitHub Action: inputs become the command line's arguments, the report becomes outputs.

Standard library only, and nothing of `antidote_ci` is imported: the Action calls it as users do.
"""
