"""What every part builds on: recordings, readers, stages, modalities, dataset descriptions and registries."""
