"""The child process in which models run: no token, an empty home, limits."""
