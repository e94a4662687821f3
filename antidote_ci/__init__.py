"""CI gate for fine-tuned language models: evaluate a Hub model on harmful prompts, repair its weights, publish them."""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

ACTION = "OWNER/antidote-ci@0000000000000000000000000000000000000000"
"""The Action that `antidote-ci init` writes. A release writes its own repository and commit here: scripts/release."""
_REPOSITORY, _, _COMMIT = ACTION.partition("@")
DOCUMENTATION = f"https://github.com/{_REPOSITORY}/blob/{'main' if set(_COMMIT) == {'0'} else f'v{__version__}'}/docs"
"""The address of the documentation, which a wheel does not contain."""

__all__ = ["__version__", "evaluate", "repair", "run", "verify"]

if TYPE_CHECKING:
    from antidote_ci.api import evaluate, repair, run, verify


class _Package(ModuleType):
    """This package: the functions of `antidote_ci.api` are its attributes, and are imported when they are used."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any function
        if name in ("run", "evaluate", "verify"):
            return getattr(importlib.import_module(f"{__name__}.api"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    @property
    def repair(self) -> ModuleType:
        """The package `antidote_ci.repair`, which has the name of the function and can be called like it."""
        package = importlib.import_module(f"{__name__}.repair")
        package.__class__ = _CallableRepair
        return package

    @repair.setter
    def repair(self, package: ModuleType) -> None:
        """Python sets a subpackage as an attribute when it is imported."""


class _CallableRepair(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - of antidote_ci.api.repair
        return importlib.import_module("antidote_ci.api").repair(*arguments, **options)

    @property
    def __signature__(self) -> Any:  # noqa: ANN401 - inspect, which is not imported for it
        import inspect

        return inspect.signature(importlib.import_module("antidote_ci.api").repair)


sys.modules[__name__].__class__ = _Package
