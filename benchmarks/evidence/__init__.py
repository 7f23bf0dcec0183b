"""The pooled evidence: studies, their population fitted by NUTS, and how well it was held out."""
