"""A small ST-MNIST."""

from pathlib import Path

import numpy as np

from datasets.writers.mat import write_mat
from datasets.writers.mnistdvs_ntidigits import write_mnistdvs_ntidigits


def spike_trains(rng: np.random.Generator, columns: int = 40) -> np.ndarray:
    """A recording [101, columns]: at each time, in milliseconds, a taxel or two, most of the others nothing."""
    trains = np.zeros((101, columns))
    for column in range(columns):
        taxels = rng.choice(100, size=int(rng.integers(0, 3)), replace=False)
        trains[taxels, column] = rng.choice([-1, 1], size=len(taxels))
    trains[100] = np.sort(rng.choice(2000, size=columns, replace=False)) / 1000
    return trains


def write_st_mnist(root: Path, *, digits: str = "0123456789", per_digit: int = 4) -> dict[str, np.ndarray]:
    """Write `<digit>/*.mat` and the tables of addresses that lie among them; return the trains by id."""
    rng = np.random.default_rng(0)
    written: dict[str, np.ndarray] = {}
    for digit in digits:
        for number in range(per_digit):
            trains = spike_trains(rng)
            write_mat(root / digit / f"{digit}_{number:04d}.mat", {"spiketrain": trains}, compressed=number % 2 == 0)
            written[f"{digit}/{digit}_{number:04d}"] = trains
    write_mat(root / "LUT.mat", {"LUT": np.arange(100.0)})
    write_mat(root / digits[0] / "LUT_taxels.mat", {"LUT": np.arange(100.0)})
    return written


def write_mnistdvs_ntidigits_stmnist(root: Path, *, per_digit: int = 24) -> dict[str, np.ndarray]:
    """Write MNIST-DVS and N-TIDIGITS18, and ST-MNIST in a folder beside them; return the trains of the latter by id.

    Every split has all digits with a quarter of each set for validation and one for testing.
    """
    write_mnistdvs_ntidigits(root, scales=(4,), per_digit=per_digit)
    return write_st_mnist(root / "ST-MNIST", per_digit=per_digit)
