"""Which run next: proposals by the expected error of the fit. Imports design."""
