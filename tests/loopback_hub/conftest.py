"""Fixtures shared with the tests of `antidote_ci.hub`."""

from tests.hub.conftest import client_settings, hub, model, pickled

__all__ = ["client_settings", "hub", "model", "pickled"]
