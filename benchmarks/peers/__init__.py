"""Other tools on the same broken checkpoint, each in an environment of its own."""
