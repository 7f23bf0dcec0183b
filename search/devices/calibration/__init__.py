"""Profiles from measurements: cases, timing, least squares, llama-bench files."""
