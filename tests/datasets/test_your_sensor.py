import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "your_sensor.py"


def test_the_example_adds_a_sensor_and_prints_the_batch(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Of 12 training rows two, one a class, are carved out for validation; one of those left has no gas.
    assert done.stdout.splitlines() == [
        "photo: image (3, 32, 32), no time steps",
        "gas: series (8,), 6 time steps",
        "photo (10, 3, 32, 32), present for 10 of 10",
        "gas (6, 10, 8), present for 9 of 10",
    ]
    assert list(tmp_path.iterdir()) == []


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 40
