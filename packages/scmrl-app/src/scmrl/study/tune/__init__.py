"""Search for the best settings, and retrain them with other seeds."""
