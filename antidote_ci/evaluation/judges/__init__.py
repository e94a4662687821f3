"""Who says whether an answer is harmful. One file a judge; `interface` beside them."""
