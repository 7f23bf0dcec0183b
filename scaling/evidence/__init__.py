"""The pooled evidence: a population of studies, and the law of a new one."""
