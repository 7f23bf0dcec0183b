"""The question as numbers, and the exact or explored Pareto front of its answers."""
