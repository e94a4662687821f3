"""The steps of a run, and the commands that are made of them."""
