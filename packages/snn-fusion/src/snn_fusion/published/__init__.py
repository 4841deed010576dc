"""Checkpoints of the published S-CMRL code: reading the file, translating names, building the model."""
