"""The on-disk cache of prepared samples."""
