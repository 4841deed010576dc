"""Accuracy under disturbances of the inputs."""
