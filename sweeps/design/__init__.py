"""What to run: designs, shapes, layout into trunks, plans; presets/ ships designs."""
