"""Hostile inputs at every border, in forked children with limits."""
