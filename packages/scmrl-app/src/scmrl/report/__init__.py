"""The HTML report on runs and studies, and the summary that every run ends with."""
