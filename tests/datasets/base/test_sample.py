import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader

from snn_datasets import InMemoryDataset, Sample, collate


def sample(id_: str, label: int, *, rows: int = 3) -> Sample:
    value = float(label)
    return Sample(
        id=id_, label=label, inputs={"image": torch.full((1, rows, 4), value), "audio": torch.full((2, 5), -value)}
    )


def test_collate_stacks_each_modality_in_batch_order():
    batch = collate([sample("a", 7), sample("b", 2)])
    assert batch["inputs"]["image"].shape == (2, 1, 3, 4)
    assert batch["inputs"]["audio"].shape == (2, 2, 5)
    assert batch["inputs"]["audio"][:, 0, 0].tolist() == [-7, -2]
    assert batch["labels"].dtype == torch.int64
    assert batch["labels"].tolist() == [7, 2]
    assert batch["ids"] == ["a", "b"]


def test_collate_names_the_sample_whose_shape_differs():
    with pytest.raises(ValueError, match=r"'odd'.*'image'.*\(1, 6, 4\).*\(1, 3, 4\)"):
        collate([sample("a", 0), sample("b", 0), sample("odd", 0, rows=6)])


def test_collate_refuses_samples_with_other_modalities():
    deaf = Sample(id="deaf", label=0, inputs={"image": torch.zeros(1, 3, 4)})
    with pytest.raises(ValueError, match=r"'deaf'.*\['image'\].*'a'.*\['audio', 'image'\]"):
        collate([sample("a", 0), deaf])


def test_collate_refuses_an_empty_list():
    with pytest.raises(ValueError, match="at least one"):
        collate([])


def test_memory_dataset_feeds_a_data_loader():
    values = torch.arange(5.0)[:, None, None].expand(5, 1, 2)
    dataset = InMemoryDataset({"touch": values}, labels=[4, 3, 2, 1, 0], ids=list("abcde"))
    batches = list(DataLoader(dataset, batch_size=2, collate_fn=collate))
    assert [batch["ids"] for batch in batches] == [["a", "b"], ["c", "d"], ["e"]]
    assert batches[1]["labels"].tolist() == [2, 1]
    assert batches[1]["inputs"]["touch"][:, 0, 0].tolist() == [2, 3]
    assert [sample.id for sample in dataset] == list("abcde")
    assert dataset[-1].id == "e"


def test_specs_load_without_torch():
    code = (
        "import sys, snn_datasets as d; d.DigitsSpec(); d.ManifestSpec(root='.'); d.DATASETS; d.AnyDataSpec; "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules; d.collate; assert 'torch' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
