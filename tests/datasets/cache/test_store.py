import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snn_datasets import Events, Image, Series, Video, Waveform
from snn_datasets.cache.store import Absent, Prepared, Store, size_of, write_store

RNG = np.random.default_rng(0)


def events(count: int) -> Events:
    return Events.of(
        t=np.sort(RNG.integers(0, 5000, count)),
        x=RNG.integers(0, 7, count),
        y=RNG.integers(0, 5, count),
        p=RNG.integers(0, 2, count),
        size=(5, 7),
        duration=6000,
    )


SAMPLES: dict[str, list[Prepared]] = {
    "images": [Image(RNG.integers(0, 255, (3, 4, n), dtype=np.uint8)) for n in (5, 2, 9)],
    "videos": [
        Video(RNG.integers(0, 255, (n, 1, 3, 2), dtype=np.uint8), np.linspace(0, 1, n, dtype=np.float64))
        for n in (1, 4)
    ],
    "waveforms": [Waveform(RNG.standard_normal((2, n)).astype(np.float32), 8000 + n) for n in (3, 0, 11)],
    "events": [events(n) for n in (4, 0, 1)],
    "series": [Series(RNG.standard_normal((n, 3)).astype(np.float32), np.arange(n, dtype=np.float64)) for n in (2, 5)],
    "tensors": [torch.randn(2, 3, n).half() for n in (4, 1)],
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    assert type(a) is type(b)
    for name in a.__dataclass_fields__:
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, np.ndarray):
            if x.dtype != y.dtype or not np.array_equal(x, y):
                return False
        elif x != y or type(x) is not type(y):
            return False
    return True


@pytest.mark.parametrize("kind", SAMPLES)
def test_values_are_read_back_exactly_in_any_order(kind: str, tmp_path: Path):
    samples = SAMPLES[kind]
    write_store(tmp_path / "s", samples, {})
    store = Store(tmp_path / "s")
    assert len(store) == len(samples)
    for index in reversed(range(len(samples))):
        back = store[index]
        assert same(samples[index], back)
        assert same(samples[index], pickle.loads(pickle.dumps(store))[index])


def test_changing_a_read_value_leaves_the_file_unchanged(tmp_path: Path):
    write_store(tmp_path / "s", [torch.ones(3)], {})
    store = Store(tmp_path / "s")
    first = store[0]
    assert isinstance(first, torch.Tensor)
    first.zero_()
    assert same(store[0], torch.ones(3))


def test_absent_samples_keep_their_index_and_reason(tmp_path: Path):
    write_store(tmp_path / "s", [Absent("lost"), torch.ones(2), Absent("torn")], {})
    store = Store(tmp_path / "s")
    assert store[0] == Absent("lost")
    assert same(store[1], torch.ones(2))
    assert store[2] == Absent("torn")


def test_a_store_without_any_recording_can_be_read(tmp_path: Path):
    write_store(tmp_path / "s", [Absent("lost")], {})
    assert Store(tmp_path / "s")[0] == Absent("lost")


def spread(*, gap: int, size: tuple[int, int], polarities: int, highest: int | None = None) -> Events:
    """Return events every `gap` us, some in the corners; `highest` limits the columns."""
    (height, width), count = size, 40
    x = RNG.integers(0, highest or width, count)
    y, p = RNG.integers(0, height, count), RNG.integers(0, polarities, count)
    x[:2], y[:2], p[:2] = (0, (highest or width) - 1), (0, height - 1), (0, polarities - 1)
    return Events.of(t=5_000_000 + gap * np.arange(count), x=x, y=y, p=p, size=size, polarities=polarities)


SENSORS: dict[str, tuple[Events, int]] = {
    "taxels": (spread(gap=255, size=(10, 10), polarities=2), 1 + 1),
    "channels": (spread(gap=256, size=(1, 64), polarities=1), 1 + 2),
    "channels whose number has more bits than those that send": (spread(gap=9, size=(1, 256), polarities=1), 2 + 1),
    "units": (spread(gap=65_535, size=(1, 700), polarities=1, highest=90), 2 + 2),
    "a camera": (spread(gap=65_536, size=(128, 128), polarities=2), 2 + 4),
    "a large camera": (spread(gap=1, size=(260, 346), polarities=2), 4 + 1),
    "the largest sensor": (spread(gap=10**8, size=(2**16, 2**16), polarities=2), 8 + 4),
    "two events at once, 71 minutes later": (
        Events.of(
            t=np.array([0, 2**32 - 2, 2**32 - 2]),
            x=np.array([3, 0, 6]),
            y=np.array([0, 4, 4]),
            p=np.array([1, 0, 1]),
            size=(5, 7),
        ),
        1 + 4,
    ),
}


@pytest.mark.parametrize("sensor", SENSORS)
def test_events_take_as_few_bytes_as_sensor_and_pace_need_and_come_back_exactly(sensor: str, tmp_path: Path):
    recording, bytes_each = SENSORS[sensor]
    assert size_of(recording) - size_of(events(0)) == bytes_each * len(recording)
    write_store(tmp_path / "s", [events(7), recording, events(0)], {})
    assert same(recording, Store(tmp_path / "s")[1])
    assert (tmp_path / "s" / "data.bin").stat().st_size == sum(map(size_of, (events(7), recording, events(0))))


def test_events_off_their_sensor_are_refused_rather_than_changed(tmp_path: Path):
    with pytest.raises(ValueError, match=r"x = 6, outside 0 to 5"):
        write_store(tmp_path / "s", [replace(spread(gap=1, size=(5, 7), polarities=2), size=(5, 6))], {})
    assert list(tmp_path.iterdir()) == []


def test_samples_of_two_types_are_refused_and_nothing_is_left(tmp_path: Path):
    with pytest.raises(ValueError, match=r"sample 1 .*Tensor.*f8.*f4.*the same type"):
        write_store(tmp_path / "s", [torch.ones(2), torch.ones(2).double()], {})
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_writers_wins(tmp_path: Path):
    write_store(tmp_path / "s", [torch.ones(2)], {})
    write_store(tmp_path / "s", [torch.zeros(2)], {})
    assert same(Store(tmp_path / "s")[0], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
