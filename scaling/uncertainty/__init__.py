"""How sure a fit is: bootstrap by run, sandwich covariance, profile likelihood, diagnostics."""
