"""Readers and stages of the five kinds of recording."""
