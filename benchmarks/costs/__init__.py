"""Memory, disk and time of the commands, measured on checkpoints in folders, and extrapolated to larger ones."""
