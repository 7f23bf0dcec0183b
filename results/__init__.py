"""First floor: what was measured. Imports scaling only."""
