"""Weight formats: what each tensor weighs, what it costs to unpack, and what rounding it does."""
