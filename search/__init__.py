"""Second floor: uses laws. Imports scaling and results, never sweeps."""
