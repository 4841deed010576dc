"""Accuracy and cost over the number of training samples and of modalities."""
