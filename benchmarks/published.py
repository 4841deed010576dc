"""Error of our results relative to the arrays of the published S-CMRL code: one line per golden case.

Each column is one group of arrays (values in evaluation and in training, losses, gradients of inputs and weights,
running statistics) with its largest error: the largest difference within an array, relative to the array's largest
entry. 0 means bit-identical. Whole models are imported from a checkpoint of the case's weights. The last column applies
the tolerance of the parity tests; the exit code is 1 if any case exceeds it.

    uv run python benchmarks/published.py                        the cases in tests/parity/data
    uv run python benchmarks/published.py --golden-dir FOLDER    those in another folder
    uv run python benchmarks/published.py --output FILE.md       also writes the table
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from parity.compare import GROUPS, Compared, compare
from parity.golden import DATA, load


def within_tolerance(compared: Compared) -> bool:
    try:
        compared.assert_agrees()
    except AssertionError:
        return False
    return True


def row(name: str, compared: list[Compared]) -> tuple[str, bool]:
    """Return a case's line of the table, and whether all of it is within the tolerance."""
    errors = {group: [one.error for one in compared if one.group == group] for group in GROUPS}
    cells = [f"{max(values):.1e} ({len(values)})" if values else "" for values in errors.values()]
    beyond = [one.what for one in compared if not within_tolerance(one)]
    verdict = f"no: {', '.join(beyond[:3])}" if beyond else "yes"
    return f"| {' | '.join([name, *cells, verdict])} |", not beyond


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden-dir", type=Path, default=DATA, help="folder with the cases' .npz files")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    names = sorted(path.stem for path in options.golden_dir.glob("*.npz"))
    if not names:
        parser.error(f"there are no golden arrays in {options.golden_dir}")
    lines = [
        "# Distance from the published code",
        "",
        f"PyTorch {torch.__version__}, {platform.machine()}. Largest error relative to an array's largest entry, "
        "and in parentheses the number of arrays.",
        "",
        f"| case | {' | '.join(GROUPS)} | within tolerance |",
        f"|---|{'---|' * len(GROUPS)}---|",
    ]
    print("\n".join(lines))
    good = True
    for name in names:
        line, within = row(name, compare(load(name, options.golden_dir)))
        good = good and within
        lines.append(line)
        print(line, flush=True)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
