"""S-CMRL (He et al. 2025, arXiv:2502.12488) in SpikingJelly and PyTorch, written from its equations.

The baseline that `benchmarks/model.py` times our models against, and `tests/parity/test_baseline.py` compares with
arrays of the published code. It imports none of our packages. Modules have the names of ours, so a state dict of one
loads into the other.
"""
