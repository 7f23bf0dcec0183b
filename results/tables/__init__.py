"""Readers of other people's runs, and of our own records, as `RunTable`s."""
