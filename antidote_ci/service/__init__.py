"""The webhook service: receives events of the Hub and runs what they request."""
