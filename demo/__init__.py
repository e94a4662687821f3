"""The demo: `antidote-ci run` on a real 135M model and a loopback Hub. Not part of the wheel."""
