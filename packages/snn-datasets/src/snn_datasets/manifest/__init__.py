"""Datasets of the user's own files, listed in a table."""
