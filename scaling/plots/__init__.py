"""Pictures of a fit and of its law. Matplotlib is imported only when one is drawn."""
