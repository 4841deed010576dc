"""The commands of `scmrl`, one module each."""
