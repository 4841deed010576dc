"""Recipes: each trains on a small copy of its dataset in the real format; published ones match the publication."""

from pathlib import Path

import pytest
import torch

from datasets.writers.catalog import CATALOG
from scmrl.config.assemble import model_spec
from scmrl.config.experiment import Experiment
from scmrl.config.overlay import load
from scmrl.config.recipes import RECIPES, recipe
from snn_datasets import DatasetInfo, DatasetSplits, ModalityInfo, collate
from snn_fusion import PRESETS

# What so small a copy needs, and what makes a step fast.
SMALL = [
    *("--model.channels", "16", "--model.fusion.num_heads", "4", "--model.time_steps", "2"),
    *("--train.batch_size", "4"),
]
OF_COPY = {
    "digits": ["--data.time_steps", "2"],
    "crema-d": ["--data.size", "32", "--data.time_steps", "2"],
    "urbansound8k-av": ["--data.size", "32"],
    "mnistdvs-ntidigits": [
        *("--data.time_steps", "2", "--data.val_fraction", "0.25", "--data.test_fraction", "0.3"),
        *("--data.train_per_class", "1", "--data.val_per_class", "1", "--data.test_per_class", "1"),
    ],
}


def small(name: str, root: Path) -> Experiment:
    """The recipe on a small copy of its dataset."""
    result = recipe(name)
    kind = result.data.card.kind
    CATALOG[kind].write(root)
    at = ["--data.root", str(root)] if "root" in type(result.data).model_fields else []
    options = [*at, *OF_COPY[kind], *SMALL]
    return load(Experiment, options, defaults=result)


def first_batches(splits: DatasetSplits, size: int) -> list[list[int]]:
    count = len(splits.train)
    size = min(size, count // 2)
    return [list(range(size)), list(range(size, 2 * size))]


# Making the embedded digits takes a while.
TO_TRAIN = [pytest.param(name, marks=pytest.mark.slow) if "scmrl" not in name else name for name in RECIPES]


@pytest.mark.parametrize("name", TO_TRAIN)
def test_recipe_trains_on_the_real_format(name: str, tmp_path: Path):
    experiment = small(name, tmp_path)
    splits = experiment.data.build()
    assert tuple(splits.info.modalities) == (("audio", "visual", "touch") if "three" in name else ("audio", "visual"))
    torch.manual_seed(0)
    model = model_spec(experiment.model, splits.info).build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=experiment.train.learning_rate)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    assert isinstance(experiment.train.batch_size, int)
    for indices in first_batches(splits, experiment.train.batch_size):
        batch = collate([splits.train[index] for index in indices])
        output = model(batch["inputs"])
        loss = model.total_loss(output, batch["labels"]).total
        assert output.logits.shape == (len(indices), len(splits.info.classes))
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    changed = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2


def info(shapes: dict[str, tuple[int, ...]], *, classes: int, time_steps: int | None) -> DatasetInfo:
    modalities = {name: ModalityInfo("image", shape, time_steps) for name, shape in shapes.items()}
    return DatasetInfo("made up", tuple(map(str, range(classes))), modalities)


@pytest.mark.parametrize(
    ("name", "side", "classes", "visual_channels", "time_steps", "parameters"),
    [
        ("scmrl-cremad", 128, 6, 3, None, 4_204_038),
        ("scmrl-urbansound8k-av", 128, 10, 3, None, 267_146),
        ("scmrl-mnistdvs-ntidigits", 28, 10, 2, 16, 4_022_666),
    ],
)
def test_published_recipe_builds_the_published_model(
    name: str, side: int, classes: int, visual_channels: int, time_steps: int | None, parameters: int
):
    shapes = {"audio": (1, side, side), "visual": (visual_channels, side, side)}
    result = recipe(f"{name}-published")
    spec = model_spec(result.model, info(shapes, classes=classes, time_steps=time_steps))
    assert spec == PRESETS[f"{name}-published"]
    assert sum(p.numel() for p in spec.build().parameters()) == parameters


@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith("-published")])
def test_published_recipe_has_the_published_schedule(name: str):
    result = recipe(name)
    train = result.train
    assert (train.epochs, train.batch_size, train.warmup_epochs, result.seed) == (100, 128, 5, 42)
    assert (train.learning_rate, train.learning_rate_batch, train.weight_decay) == (5e-3, 1024, 1e-4)
    assert (train.selection, result.model.init, result.model.label_smoothing) == ("test", "uncalibrated", 0.1)
    assert result.data.model_dump()["protocol"] == "published"
    # Nothing of the library's own that the authors did not have.
    assert (train.augment_shift, train.augment_scale, train.average, train.gradient_clip) == (0, 0, 0, 0)


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.endswith("-published")])
def test_other_recipes_select_on_validation_and_start_alive(name: str):
    result = recipe(name)
    assert (result.train.selection, result.model.init) == ("validation", "calibrated")
    assert result.data.model_dump().get("protocol") != "published"


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_has_a_summary_and_survives_a_round_trip(name: str):
    result = recipe(name)
    assert (RECIPES[name].__doc__ or "").splitlines()[0].endswith(".")
    assert Experiment.model_validate_json(result.model_dump_json()) == result
    assert load(Experiment, [], defaults=result) == result


def test_an_unknown_recipe_suggests_the_nearest():
    with pytest.raises(
        ValueError, match=r"^scmrl-crema: no such recipe \(did you mean scmrl-cremad\?\); there are: dig"
    ):
        recipe("scmrl-crema")
