"""From the files of a dataset to splits, pairs and samples."""
