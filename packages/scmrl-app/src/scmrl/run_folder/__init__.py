"""Run folders: write, read, verify and open them."""
