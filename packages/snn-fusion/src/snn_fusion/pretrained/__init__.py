"""Models as folders: saving, loading, checksums, and fine-tuning from the weights of another model."""
