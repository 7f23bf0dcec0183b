"""The pooled evidence as it ships: draws of the population of studies, and its data sheet."""
