"""A query's answer: the pick, what stands beside it, its tables and plots."""
