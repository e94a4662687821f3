"""What is claimed, measured: one folder a claim, one command each."""
