"""Measure what a language model's shape buys in loss and costs on a device; then choose."""
