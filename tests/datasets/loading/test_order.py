from typing import Any

import pytest
from torch.utils.data import DataLoader

from snn_datasets import EpochOrder


def order(**arguments: Any) -> list[tuple[int, int]]:
    return list(EpochOrder(23, seed=3, **arguments))


def test_every_sample_comes_once_an_epoch_with_the_epoch_beside_it():
    assert sorted(order(epoch=4)) == [(4, index) for index in range(23)]


def test_order_depends_on_seed_and_epoch_and_on_nothing_else():
    assert order(epoch=1) == order(epoch=1)
    assert order(epoch=1) != order(epoch=2)
    assert list(EpochOrder(23, seed=4, epoch=1)) != order(epoch=1)
    assert order(shuffle=False) == [(0, index) for index in range(23)]


def test_ranks_split_an_epoch_without_overlap():
    shares = [order(rank=rank, world_size=4) for rank in range(4)]
    assert sorted(index for share in shares for _, index in share) == list(range(23))
    assert [len(EpochOrder(23, rank=rank, world_size=4)) for rank in range(4)] == [len(share) for share in shares]


def test_an_interrupted_epoch_continues_where_it_stopped():
    assert order(first=10) == order()[10:]
    assert order(first=2, rank=1, world_size=4) == order(rank=1, world_size=4)[2:]
    assert len(EpochOrder(23, first=30)) == 0


@pytest.mark.parametrize("wrong", [{"rank": 2, "world_size": 2}, {"epoch": -1}, {"first": -1}])
def test_values_out_of_range_are_refused(wrong: dict[str, int]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        order(**wrong)


def test_a_data_loader_takes_it_as_sampler():
    numbers: Any = list(range(23))
    loader = DataLoader(numbers, sampler=EpochOrder(23), batch_size=None, collate_fn=None)
    assert len(loader) == 23
