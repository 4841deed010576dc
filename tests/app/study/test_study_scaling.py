"""`scmrl study scaling`: fractions of the training samples, subsets of modalities, their gain and cost."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from app.tiny import tiny_options, write_tiny_dataset
from scmrl.config.experiment import Experiment
from scmrl.config.overlay import load
from scmrl.console.progress import Progress
from scmrl.engine.subset import TrainingSubset, stratified_indices
from scmrl.engine.train import train
from scmrl.study.kinds import KINDS
from scmrl.study.scaling.findings import tabulate
from scmrl.study.scaling.measure import measure, saved_bytes
from scmrl.study.scaling.spec import ScalingSpec
from scmrl.study.statistics import pack_bits
from snn_datasets import DigitsSpec, Sample, SampleDataset


def spec_of(*options: str) -> ScalingSpec:
    modalities = ("audio", "visual", "touch")
    return load(ScalingSpec, options, defaults=Experiment(data=DigitsSpec(modalities=modalities)))


LABELS = [0] * 40 + [1] * 80 + [2] * 3 + [3] * 37


@pytest.mark.parametrize("share", [0.05, 0.125, 0.3, 0.5, 0.9])
def test_a_stratified_subset_has_the_class_frequencies_of_all_samples(share: float):
    indices = stratified_indices(LABELS, share, seed=3)
    assert indices == sorted(set(indices))
    assert len(indices) == round(share * len(LABELS))
    counts, total = Counter(LABELS[index] for index in indices), Counter(LABELS)
    for label in range(4):
        assert counts[label] >= 1
        assert abs(counts[label] - share * total[label]) < 1.6


def test_smaller_subsets_are_nested_in_larger_ones_and_differ_between_seeds():
    for seed in range(5):
        subsets = [set(stratified_indices(LABELS, share, seed=seed)) for share in (0.025, 0.1, 0.25, 0.5, 1.0)]
        assert all(small < large for small, large in pairwise(subsets))
        assert subsets[-1] == set(range(160))
    draws = [stratified_indices(LABELS, 0.25, seed=seed) for seed in range(5)]
    assert draws[0] == stratified_indices(LABELS, 0.25, seed=0)
    assert len({tuple(indices) for indices in draws}) == 5
    labels = [0] * 10 + [1] * 10
    counts = Counter(index for seed in range(200) for index in stratified_indices(labels, 0.25, seed=seed))
    assert len(counts) == 20
    assert max(counts.values()) < 90  # 50 expected, 6 standard deviations


def test_a_training_subset_passes_the_epoch_on():
    class FourSamples(SampleDataset):
        labels = (5, 6, 7, 8)
        has_absences = True

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int | tuple[int, int]) -> Sample:
            epoch, position = index if isinstance(index, tuple) else (0, index)
            return Sample(f"{position} in {epoch}", {}, self.labels[position])

    subset = TrainingSubset(FourSamples(), [1, 3])
    assert len(subset) == 2
    assert subset.labels == (6, 8)
    assert subset.has_absences
    assert [sample.id for sample in subset] == ["1 in 0", "3 in 0"]
    assert subset[9, 1].id == "3 in 9"


def test_every_fraction_is_combined_with_every_subset_of_modalities():
    spec = spec_of("--variants=ccssa,concat", "--fractions=1,0.25", "--seeds=0,4")
    points = spec.points()
    subsets = ("audio+visual", "audio+visual+touch")
    rows = ["audio alone", *(f"{variant} {subset}" for subset in subsets for variant in ("ccssa", "concat"))]
    assert list(spec.rows()) == rows
    assert [point.variant for point in points[:10]] == [f"{row} {share}" for share in ("25%", "100%") for row in rows]
    assert len({point.key for point in points}) == len(points) == 5 * 2 * 2
    experiments = {point.key: point.experiment(spec.base(), Path("x")) for point in points}
    alone = experiments["audio-alone-25-seed4"]
    assert alone.data.modalities == ("audio",)
    assert alone.model.fusion.model_dump()["kind"] == "none"
    assert (alone.train.fraction, alone.seed) == (0.25, 4)
    two = experiments["concat-audio+visual-100-seed0"]
    assert two.data.modalities == ("audio", "visual")
    assert two.model.readout.model_dump()["combine"] == "concat"
    assert two.train.fraction == 1


def test_every_subset_of_the_modalities():
    subsets = spec_of("--every_subset").subsets()
    assert [len(subset) for subset in subsets] == [1, 1, 1, 2, 2, 2, 3]
    assert len(set(subsets)) == 7
    single = load(ScalingSpec, ["--data.modalities=touch", "--fractions=1"])
    assert [point.variant for point in single.points()] == ["touch alone 100%"] * 3


def test_the_budget_keeps_steps_or_epochs_constant():
    options = (
        "--train.epochs=6",
        "--train.warmup_epochs=1.5",
        "--train.patience=2",
        "--fractions=0.125,1",
        "--seeds=0",
    )
    for budget, epochs, warmup, patience in (("steps", 48, 12.0, 16), ("epochs", 6, 1.5, 2)):
        spec = spec_of(*options, f"--budget={budget}")
        first, *_, last = (point.experiment(spec.base(), Path("x")).train for point in spec.points())
        assert (first.fraction, first.epochs, first.warmup_epochs, first.patience) == (0.125, epochs, warmup, patience)
        assert (last.fraction, last.epochs, last.warmup_epochs, last.patience) == (1.0, 6, 1.5, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variants=ccsa"], "--variants ccsa: no such variant.*ccssa"),
        (["--variants=visual alone"], "single modalities are always included"),
        (["--fractions=0,1"], "distinct fractions above 0, up to 1"),
        (["--train.fraction=0.5"], "use --fractions instead"),
        (["--data.kind=manifest", "--data.root=x"], "needs data.modalities, which is not set"),
    ],
)
def test_invalid_options_are_refused_before_training(options: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        load(ScalingSpec, options).points()


def test_saved_bytes_are_those_counted_by_hand():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(30, 50), nn.Linear(50, 7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x).relu())

    net, x = Net(), torch.rand(11, 30)
    # The input, for the gradient of the first weights; the output of relu, for its own and the second gradient, once.
    assert saved_bytes(net, lambda: net(x).sum().backward()) == 4 * 11 * (30 + 50)


def test_a_fraction_is_trained_and_measured(tmp_path: Path):
    tiny = tiny_options(write_tiny_dataset(tmp_path, train=64, test=10), tmp_path / "study")
    tiny[tiny.index("--train.epochs") + 1] = "1"
    options = ["--data.modalities=image,audio", "--variants=add", "--seeds=0", "--fractions=0.5"]
    spec = load(ScalingSpec, [*tiny, *options])
    assert KINDS["scaling"].spec_type().model_validate(json.loads(spec.model_dump_json())) == spec, (
        "as a worker loads it"
    )
    results: dict[str, dict[str, Any]] = {}
    for point in spec.points():
        run = train(point.experiment(spec.base(), tmp_path / point.key), Progress.create().mute())
        assert len(run.splits.train) == 24, "half of 64 without the validation split"
        assert Counter(run.splits.train.labels) == {0: 12, 1: 12}
        assert (len(run.splits.val), len(run.splits.test)) == (16, 10)
        results[point.key] = json.loads(json.dumps({"seconds": run.seconds, **measure(spec, run)}))
    one, two = results.values()
    assert (one["samples"], one["steps"]) == (24, 2 * 3), "two epochs of three batches"
    assert two["modalities"] == ["image", "audio"]
    for quantity in ("parameters", "saved_bytes", "macs", "operations"):
        assert two[quantity] > one[quantity] > 0
    for result in (one, two):
        assert result["operations"] < result["macs"]
        assert result["step_samples"] == 8
        assert result["step_seconds"] > 0
    assert {table.name for table in tabulate(spec, results).tables} == {"accuracy", "gain", "training", "cost"}


def results_by_hand(spec: ScalingSpec) -> dict[str, dict[str, Any]]:
    """Of 8 samples, one per modality is correct, and 2 more with all training samples."""
    results: dict[str, dict[str, Any]] = {}
    for row, (modalities, _) in spec.rows().items():
        for share in spec.fractions:
            for seed in spec.all_seeds:
                n = len(modalities)
                correct = n + (2 if share == 1 else 0) + (1 if row == "visual alone" else 0)
                results[spec.point(row, share, seed).key] = {
                    "seconds": 60.0, "test_accuracy": correct / 8, "correct": pack_bits(np.arange(8) < correct),
                    "modalities": list(modalities), "samples": int(1000 * share), "steps": 40, "parameters": 2000 * n,
                    "step_seconds": 0.08 * n, "step_samples": 32, "saved_bytes": 1.5e6 * n, "macs": 4e6 * n,
                    "operations": 1e6 * n, "hardware": "a machine",
                }  # fmt: skip
    return results


def test_tables_list_the_gain_and_cost_of_samples_and_modalities():
    spec = spec_of("--every_subset", "--fractions=0.25,1", "--seeds=0,1", "--variants=ccssa,add")
    findings = tabulate(spec, results_by_hand(spec))
    tables = {table.name: table for table in findings.tables}
    assert list(tables["accuracy"].columns) == ["modalities", "250 samples", "1000 samples"]
    accuracy = {row[0]: row[1:] for row in tables["accuracy"].rows}
    assert accuracy["audio alone"] == ["12.5 ± 0.0", "37.5 ± 0.0"]
    assert accuracy["add audio+visual+touch"] == ["37.5 ± 0.0", "62.5 ± 0.0"]
    gains = {(row[0], row[1]): row[2:] for row in tables["gain"].rows}
    assert len(gains) == 2 * 4 * 2
    assert gains["ccssa audio+visual", "250"][:2] == ["visual alone", "+0.0"]
    assert gains["ccssa audio+touch", "250"][:2] == ["audio alone", "+12.5"]
    assert gains["add audio+visual+touch", "1000"][0].startswith("add "), "the same fusion method"
    cost = {row[0]: row[1:] for row in tables["cost"].rows}
    assert cost["ccssa audio+visual"] == ["4", "5", "3", "2", "8"]
    assert tables["training"].rows[0][1] == "40; 60 s"
    learning, costs = (plot.figure for plot in findings.plots)
    assert learning.axes[0].get_xscale() == "log"
    assert [text.get_text() for text in learning.axes[0].get_xticklabels()] == ["250", "1000"]
    lines = [np.asarray(line.get_ydata()) for line in costs.axes[1].get_lines()]
    np.testing.assert_allclose(next(y for y in lines if y.size == 3), [2.5, 5, 7.5])
    assert any("a machine" in note for note in findings.notes)


def test_tables_can_be_made_of_some_points():
    spec = spec_of("--fractions=0.25,1", "--seeds=0,1")
    results = {key: value for key, value in results_by_hand(spec).items() if key in (
        "ccssa-audio+visual-25-seed0", "ccssa-audio+visual-25-seed1", "ccssa-audio+visual-100-seed1"
    )}  # fmt: skip
    findings = tabulate(spec, results)
    assert [table.name for table in findings.tables] == ["accuracy", "training", "cost"]
    assert findings.tables[0].rows == [["ccssa audio+visual", "25.0 ± 0.0", "50.0"]]
    assert [plot.name for plot in findings.plots] == ["accuracy"]
