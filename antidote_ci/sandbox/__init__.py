"""The sandbox process in which models run: no token, an empty home, no privileges, limits of time and memory."""
