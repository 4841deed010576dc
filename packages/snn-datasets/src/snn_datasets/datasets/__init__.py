"""The datasets, one file each: the card, the specification and how the files are read."""
