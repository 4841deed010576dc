"""Tables of the energy of one operation. Imports no PyTorch, so that a wrong name fails at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

HOROWITZ = "Horowitz, ISSCC 2014, doi:10.1109/ISSCC.2014.6757323, 45 nm at 0.9 V"


@dataclass(frozen=True)
class EnergyTable:
    """Energy of operations, in picojoules."""

    name: str
    mac: float
    """Energy of a multiply-accumulate."""
    ac: float
    """Energy of an accumulate."""
    source: str
    """Source of the values."""

    def joules(self, mac: float, ac: float) -> float:
        """Return the energy of operations in joules."""
        return 1e-12 * (self.mac * mac + self.ac * ac)


TABLES: Mapping[str, EnergyTable] = {
    table.name: table
    for table in (
        EnergyTable("45nm", 4.6, 0.9, f"{HOROWITZ}, float32: 3.7 pJ per multiplication, 0.9 pJ per addition"),
        EnergyTable("45nm-fp16", 1.5, 0.4, f"{HOROWITZ}, float16: 1.1 pJ per multiplication, 0.4 pJ per addition"),
        EnergyTable("45nm-int32", 3.2, 0.1, f"{HOROWITZ}, int32: 3.1 pJ per multiplication, 0.1 pJ per addition"),
        EnergyTable(
            "45nm-int8",
            0.23,
            0.03,
            f"{HOROWITZ}, int8: 0.2 pJ per multiplication, 0.03 pJ per addition, both of 8 bits: wider sums need more",
        ),
    )
}
"""By name. The literature on spiking networks uses the first."""


def energy_table(text: str) -> EnergyTable:
    """Return the table with a name, or one of custom values in picojoules, as in `mac=4.6,ac=0.9`.

    Raises:
        ValueError: an unknown name, or values that are not two numbers of at least 0.
    """
    if text in TABLES:
        return TABLES[text]
    if "=" not in text:
        raise ValueError(
            f"--table {text}: no such energy table; choose from {', '.join(TABLES)}, or give picojoules: mac=4.6,ac=0.9"
        )
    entries = [entry.partition("=")[::2] for entry in text.split(",")]
    values = {name.strip(): _parse_price(value) for name, value in entries}
    if len(entries) != 2 or values.keys() != {"mac", "ac"} or any(value is None for value in values.values()):
        raise ValueError(
            f"--table {text}: custom values must be the picojoules of both operations, at least 0, as in mac=4.6,ac=0.9"
        )
    return EnergyTable(text, values["mac"] or 0.0, values["ac"] or 0.0, "given with --table")


def _parse_price(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
