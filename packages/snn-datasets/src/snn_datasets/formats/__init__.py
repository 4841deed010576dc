"""Parsers of file formats, detection of formats, and checks of damaged files."""
