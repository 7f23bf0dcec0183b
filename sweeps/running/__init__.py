"""Runs carried out: local processes, Ray, watching. Imports design, corpus, training."""
