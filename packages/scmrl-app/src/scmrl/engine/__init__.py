"""Training: the loop, what it measures, and the folder it leaves."""
