"""The embedded default: the main job on a real small model, against a Hub on this machine. No part of the wheel."""
