"""Block-by-block execution of a model whose weights do not fit into memory at once."""
