"""The datasets, a file each: its card, its specification and how its files are read."""
