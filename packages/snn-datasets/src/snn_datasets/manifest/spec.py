"""Manifest: the user's own files, listed in a table."""

from __future__ import annotations

from snn_datasets.base.dataset import DatasetSplits, Progress
from snn_datasets.manifest.options import ManifestOptions


class ManifestSpec(ManifestOptions):
    """Your own files of any modalities, in a CSV or Parquet table with a row per sample and a column per modality."""

    def check_tables(self) -> tuple[str, ...]:
        """Validate the manifest by row and column; return notes on what its splits share and on rows left out."""
        from snn_datasets.manifest.build import read_manifest

        return read_manifest(self).notes

    def build(self, progress: Progress | None = None) -> DatasetSplits:
        """Validate the table, then read every file into the cache, so that damage is reported before training."""
        from snn_datasets.manifest.build import build_manifest

        return build_manifest(self, progress)
