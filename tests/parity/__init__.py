"""Our modules, and the baseline of the benchmarks, against arrays that the published code computed."""
