"""Hold-outs: splits of a table, scores of predictions, and the choice of a form by them."""
