"""The Hub and the checkpoints that the tests of our own client have too."""

from tests.hub.conftest import client_settings, hub, model, pickled

__all__ = ["client_settings", "hub", "model", "pickled"]
