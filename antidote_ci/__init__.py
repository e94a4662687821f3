"""CI gate for fine-tuned language models: evaluate a Hub model on harmful prompts, repair its weights, publish them."""

__version__ = "0.2.0"

ACTION = "OWNER/antidote-ci@0000000000000000000000000000000000000000"
"""The Action that `antidote-ci init` writes. A release writes its own repository and commit here: scripts/release."""
_REPOSITORY, _, _COMMIT = ACTION.partition("@")
DOCUMENTATION = f"https://github.com/{_REPOSITORY}/blob/{'main' if set(_COMMIT) == {'0'} else f'v{__version__}'}/docs"
"""The address of the documentation, which a wheel does not contain."""
