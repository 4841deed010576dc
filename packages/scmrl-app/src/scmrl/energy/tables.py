"""Energy of one operation, by name. Imports no PyTorch: a mistyped name is answered at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

HOROWITZ = "Horowitz, ISSCC 2014, doi:10.1109/ISSCC.2014.6757323, 45 nm at 0.9 V"


@dataclass(frozen=True)
class EnergyTable:
    """What operations take, in picojoules."""

    name: str
    mac: float
    """A multiplication and an addition."""
    ac: float
    """An addition."""
    source: str
    """Where the numbers come from."""

    def joules(self, mac: float, ac: float) -> float:
        """Energy of so many operations."""
        return 1e-12 * (self.mac * mac + self.ac * ac)


TABLES: Mapping[str, EnergyTable] = {
    table.name: table
    for table in (
        EnergyTable("45nm", 4.6, 0.9, f"{HOROWITZ}, float32: 3.7 pJ a multiplication, 0.9 pJ an addition"),
        EnergyTable("45nm-fp16", 1.5, 0.4, f"{HOROWITZ}, float16: 1.1 pJ a multiplication, 0.4 pJ an addition"),
        EnergyTable("45nm-int32", 3.2, 0.1, f"{HOROWITZ}, int32: 3.1 pJ a multiplication, 0.1 pJ an addition"),
        EnergyTable(
            "45nm-int8",
            0.23,
            0.03,
            f"{HOROWITZ}, int8: 0.2 pJ a multiplication, 0.03 pJ an addition, both of 8 bits: sums that need more take "
            "more",
        ),
    )
}
"""By name. The first is what the literature on spiking networks uses."""


def energy_table(text: str) -> EnergyTable:
    """The table of a name, or of values of one's own in picojoules, as in `mac=4.6,ac=0.9`.

    Raises:
        ValueError: an unknown name, or values that are not two numbers of at least 0.
    """
    if text in TABLES:
        return TABLES[text]
    if "=" not in text:
        raise ValueError(
            f"--table {text}: there is no such energy table; there are: {', '.join(TABLES)}; or give picojoules: "
            "mac=4.6,ac=0.9"
        )
    entries = [entry.partition("=")[::2] for entry in text.split(",")]
    values = {name.strip(): _number(value) for name, value in entries}
    if len(entries) != 2 or values.keys() != {"mac", "ac"} or any(value is None for value in values.values()):
        raise ValueError(
            f"--table {text}: values of one's own are the picojoules of the two operations, numbers of at least 0, as "
            "in mac=4.6,ac=0.9"
        )
    return EnergyTable(text, values["mac"] or 0.0, values["ac"] or 0.0, "given with --table")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
