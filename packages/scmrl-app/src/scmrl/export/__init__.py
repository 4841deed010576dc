"""Export a run's model to other formats."""
