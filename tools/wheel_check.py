"""Build the wheels of snn-core and snn-fusion, install them alone, and run an example there.

    uv run python tools/wheel_check.py

An empty environment gets the two wheels and their dependencies. The installed packages are listed, and one that only
other packages need fails the check. Needs the package index.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "three_modalities.py"
UNWANTED = ("torchvision", "torchaudio", "spikingjelly", "matplotlib", "scikit-learn", "snn-datasets", "scmrl-app")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:3]))} failed:\n{done.stderr or done.stdout}")
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for package in ("snn-core", "snn-fusion"):
            run("uv", "build", "--wheel", "--out-dir", folder, ROOT / "packages" / package, cwd=folder)
        wheels = sorted(folder.glob("*.whl"))
        run("uv", "venv", "--python", sys.executable, folder / "venv", cwd=folder)
        python = folder / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        run("uv", "pip", "install", "--python", python, *wheels, cwd=folder)
        listed = run("uv", "pip", "list", "--python", python, cwd=folder)
        names = [line.split()[0] for line in listed.splitlines()[2:]]
        print(f"{len(wheels)} wheels, {len(names)} packages installed: {', '.join(names)}")
        if surplus := [name for name in names if name in UNWANTED]:
            sys.exit(f"snn-fusion installed what only other packages need: {', '.join(surplus)}")
        print(run(python, EXAMPLE, cwd=folder), end="")


if __name__ == "__main__":
    main()
