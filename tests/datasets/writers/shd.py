"""A small SHD."""

from pathlib import Path

import numpy as np

from datasets.writers.hdf5 import Spikes, some_spikes, write_shd_file

KEYS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun"),
)


def write_shd(root: Path, *, labels: int = 5, takes: int = 2) -> dict[str, list[Spikes]]:
    """Write both files: six speakers in training, of whom two are in the test set beside two others.

    Returns the spikes of each file as they can be stored: seconds rounded to 16 bits.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    written: dict[str, list[Spikes]] = {}
    for part, voices in (("train", (0, 1, 2, 3, 6, 7)), ("test", (2, 4, 5, 7))):
        utterances = [(speaker, label) for speaker in voices for label in range(labels) for _ in range(takes)]
        rng.shuffle(utterances)
        spikes = [some_spikes(rng, int(rng.integers(40, 80)), channels=700, seconds=1.2) for _ in utterances]
        write_shd_file(
            root / f"shd_{part}.h5",
            spikes,
            labels=[label for _, label in utterances],
            speakers=[speaker for speaker, _ in utterances],
            keys=KEYS,
        )
        written[part] = [(seconds.astype(np.float16), units) for seconds, units in spikes]
    return written
