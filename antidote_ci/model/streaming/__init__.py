"""A model run one block at a time: what is in memory is a block and a declared budget of hidden states."""
