"""Second floor: makes results. Imports scaling and results, never search."""
