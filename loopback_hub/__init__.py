"""A loopback Hub: real HTTP on 127.0.0.1, its repositories in a folder, driven by the real client.

The client's Xet transfers are not spoken here: set HF_HUB_DISABLE_XET=1 before huggingface_hub is
first imported, as `LoopbackHub.environment` says.
"""

from loopback_hub.server import LoopbackHub

__all__ = ["LoopbackHub"]
