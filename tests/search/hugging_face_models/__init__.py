"""Configs of other people's models: read, counted, refused."""
