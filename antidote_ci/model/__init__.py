"""A checkpoint made to run, always in a child process that holds no secret."""
