"""Explain single predictions: attention, occlusion, contributions of modalities, spikes."""
