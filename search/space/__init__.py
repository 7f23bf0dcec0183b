"""What may be chosen: a space of shapes and its grid; presets/ ships spaces."""
