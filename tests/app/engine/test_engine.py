"""Training options: each has the documented effect."""

import csv
import json
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from app.tiny import tiny_options, write_tiny_dataset
from scmrl.config.experiment import Experiment, TrainSpec
from scmrl.config.overlay import load
from scmrl.console.progress import Progress
from scmrl.engine import average
from scmrl.engine import train as engine
from scmrl.engine.augmentation import augment, has_augmentation
from scmrl.engine.batches import ReproducibleSamples
from scmrl.engine.diagnostics import rate_warnings
from scmrl.engine.evaluate import SplitPredictions
from scmrl.engine.failures import non_finite_inputs
from scmrl.engine.run import Run
from scmrl.engine.schedule import learning_rate
from scmrl.engine.train import train
from scmrl.report.summary import hints, write_summary
from snn_datasets import Batch, DatasetInfo, ManifestSpec, ModalityInfo, RandomFlip, RecordedDataset, Sample
from snn_fusion import FusionModel, FusionOutput, Loss, from_pretrained


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny"))


def run(data: Path, out: Path, *more: str, progress: Progress | None = None) -> Run:
    options = tiny_options(data, out)
    for name in more[::2]:
        if name in options:
            path = options.index(name)
            del options[path : path + 2]
    return train(load(Experiment, [*options, *more]), progress or Progress.create().mute())


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(data, tmp_path_factory.mktemp("done") / "run")


def test_the_published_schedule_warms_up_decays_and_scales_with_the_batch():
    options = TrainSpec(epochs=10, warmup_epochs=2, learning_rate=5e-3, batch_size=128, learning_rate_batch=1024)
    rates = [learning_rate(step, 20, options, options.schedule(2560)) for step in range(201)]
    assert rates[0] == 1e-6
    assert max(rates) == rates[40] == pytest.approx(5e-3 * 128 / 1024)
    assert np.all(np.diff(rates[:41]) > 0)
    assert np.all(np.diff(rates[40:]) < 0)
    assert rates[200] == pytest.approx(options.final_learning_rate)
    halfway = (rates[40] + rates[200]) / 2
    assert rates[120] == pytest.approx(halfway)


def test_the_average_follows_its_equation_and_is_used_in_evaluation():
    net = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1.0)
        averaged = average.begin(net)
        for value in (2.0, 3.0):
            net.weight.fill_(value)
            average.update(averaged, net, decay=0.9)
    expected = 0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 3
    with average.in_place(averaged, net):
        np.testing.assert_allclose(net.weight.detach().numpy(), expected, rtol=1e-6)
    assert torch.equal(net.weight, torch.full((1, 2), 3.0))
    with average.in_place({}, net):
        assert torch.equal(net.weight, torch.full((1, 2), 3.0))


INFO = DatasetInfo(
    "x",
    ("a", "b"),
    {
        "image": ModalityInfo("image", (1, 8, 8)),
        "frames": ModalityInfo("events", (2, 8, 8), time_steps=3),
        "smell": ModalityInfo("series", (4,), time_steps=3),
    },
)


def batch_of(ids: list[str]) -> Batch:
    torch.manual_seed(1)
    inputs = {"image": torch.rand(1, 8, 8), "frames": torch.rand(3, 2, 8, 8), "smell": torch.rand(3, 4)}
    B = len(ids)
    return {
        "inputs": {
            "image": inputs["image"].expand(B, 1, 8, 8),
            "frames": inputs["frames"][:, None].expand(3, B, 2, 8, 8),
            "smell": inputs["smell"][:, None].expand(3, B, 4),
        },
        "present": {name: torch.ones(B, dtype=torch.bool) for name in inputs},
        "labels": torch.zeros(B, dtype=torch.int64),
        "ids": ids,
    }


def test_a_sample_is_augmented_alike_in_any_batch_and_differently_each_epoch():
    options = TrainSpec(augment_shift=0.2, augment_scale=0.2)
    both = augment(batch_of(["one", "two"]), INFO, options, seed=0, epoch=1)
    alone = augment(batch_of(["two"]), INFO, options, seed=0, epoch=1)
    later = augment(batch_of(["two"]), INFO, options, seed=0, epoch=2)
    np.testing.assert_allclose(both["image"][1], alone["image"][0], atol=1e-6)
    np.testing.assert_allclose(both["frames"][:, 1], alone["frames"][:, 0], atol=1e-6)
    for name in ("image", "frames"):
        assert not torch.equal(alone[name], later[name])
        assert both[name].shape == batch_of(["one", "two"])["inputs"][name].shape
    assert not torch.allclose(both["image"][0], both["image"][1])
    assert torch.equal(both["smell"][:, 0], batch_of(["one"])["inputs"]["smell"][:, 0])


def test_automatic_augmentation_is_off_for_data_that_augment(tmp_path: Path):
    def amounts(options: TrainSpec, *, data_augment: bool) -> tuple[object, object]:
        numbers = options.with_numbers(options.schedule(1000), data_augment=data_augment)
        return numbers.augment_shift, numbers.augment_scale

    assert amounts(TrainSpec(), data_augment=False) == (0.1, 0.12)
    assert amounts(TrainSpec(), data_augment=True) == (0, 0)
    assert amounts(TrainSpec(augment_shift=0.3), data_augment=True) == (0.3, 0)
    dataset = ManifestSpec(root=write_tiny_dataset(tmp_path)).build().train
    assert isinstance(dataset, RecordedDataset)
    assert not has_augmentation(dataset)
    dataset.modalities["image"] = replace(dataset.modalities["image"], augment=(RandomFlip(),))
    assert has_augmentation(dataset)


def test_all_time_steps_of_a_sample_move_together():
    batch = batch_of(["one"])
    batch["inputs"]["frames"] = batch["inputs"]["frames"][:1].expand(3, 1, 2, 8, 8)
    moved = augment(batch, INFO, TrainSpec(augment_shift=0.1, augment_scale=0.12), seed=0, epoch=1)["frames"]
    assert torch.equal(moved[0], moved[1])
    assert torch.equal(moved[0], moved[2])


def test_layers_that_never_or_always_fire_are_named():
    rates = {"a": 0.2, "b": 0.0005, "c": 0.0, "d": 0.96}
    silent, full = rate_warnings(rates)
    assert silent == "2 of 4 neuron layers are silent (below 0.1%): b, c"
    assert full == "1 of 4 neuron layers are saturated (above 95%): d"
    assert rate_warnings({"a": 0.5}) == []


def test_selection_on_the_test_split_is_marked_in_every_output(data: Path, tmp_path: Path):
    done = run(data, tmp_path / "run", "--train.selection", "test")
    text = write_summary(done)
    assert "(selected on the test split, as published)" in text.splitlines()[0]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["selection"] == "test"
    assert done.test is not None
    assert done.position.best is not None
    assert done.test.accuracy == done.position.best["accuracy"]


@pytest.mark.parametrize(("selection", "selected"), [("validation", 4), ("test", 2)])
def test_the_best_epoch_after_the_warm_up_is_selected(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selection: str, selected: int
):
    planned = iter([(0.75, 1.0), (1.0, 1.0), (0.25, 1.0), (0.5, 0.2), (0.5, 0.3)])
    from scmrl.engine.evaluate import predict_split as evaluate

    def predict_split(*arguments: Any, **options: Any) -> SplitPredictions:
        predictions, (share, loss) = evaluate(*arguments, **options), next(planned, (1.0, 0.0))
        right = torch.arange(predictions.n) < round(share * predictions.n)
        predicted = torch.where(
            right, predictions.labels, (predictions.labels + 1) % predictions.probabilities.shape[1]
        )
        return replace(
            predictions,
            probabilities=nn.functional.one_hot(predicted, predictions.probabilities.shape[1]).float(),
            loss=loss,
        )

    monkeypatch.setattr(engine, "predict_split", predict_split)
    more = ("--train.epochs", "5", "--train.warmup_epochs", "2", "--train.selection", selection)
    done = run(data, tmp_path / "run", *more)
    assert [record["val_loss"] for record in done.position.history] == [1.0, 1.0, 1.0, 0.2, 0.3]
    assert done.position.best_epoch == selected


def test_training_stops_early_without_improvement(data: Path, tmp_path: Path):
    done = run(
        data, tmp_path / "run", "--train.patience", "2", "--train.epochs", "30", "--train.learning-rate", "1e-9",
        "--train.final_learning_rate", "0",
    )  # fmt: skip
    assert len(done.position.history) == done.position.best_epoch + 2 < 30


@pytest.mark.parametrize(
    "more",
    [
        ("--train.precision", "bfloat16"),
        ("--train.accumulate", "2", "--train.class_weights", "balanced", "--model.modality_dropout", "0.2"),
        ("--train.workers", "1", "--train.average", "0.8"),
    ],
    ids=lambda more: more[0],
)
def test_it_still_learns(data: Path, tmp_path: Path, more: tuple[str, ...]):
    done = run(data, tmp_path / "run", "--train.epochs", "4", *more)
    assert done.test is not None
    assert done.test.accuracy >= 0.85


def test_samples_that_lack_a_modality_are_trained_on_and_tested(data: Path, tmp_path: Path):
    rows = list(csv.DictReader((data / "manifest.csv").read_text().splitlines()))
    for number, row in enumerate(rows):
        if number % 3 == 0:
            row[("image", "audio")[number % 2]] = ""
    with (data / "gaps.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({name: row[name] for name in rows[0]} for row in rows)
    done = run(data, tmp_path / "run", "--data.manifest", "gaps.csv", "--train.epochs", "4")
    assert done.splits.train.has_absences
    assert done.test is not None
    assert done.test.n == 16
    assert done.test.accuracy >= 0.85


def test_a_batch_that_cannot_be_split_is_refused(data: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"batch_size 8 .*multiple of 1 processes times train.accumulate 3"):
        run(data, tmp_path / "run", "--train.accumulate", "3")


def poisoned(monkeypatch: pytest.MonkeyPatch, id_: str) -> None:
    """Put NaN or inf into one sample."""

    read = ReproducibleSamples.__getitem__

    def read_poisoned(self: ReproducibleSamples, index: tuple[int, int]) -> Sample | Exception:
        sample = read(self, index)
        assert isinstance(sample, Sample)
        if sample.id == id_:
            sample.inputs["audio"] = sample.inputs["audio"].clone()
            sample.inputs["audio"].flatten()[5] = math.nan
        return sample

    monkeypatch.setattr(ReproducibleSamples, "__getitem__", read_poisoned)


EXACT = ("--train.gradient_clip", "0", "--train.precision", "bfloat16")


@pytest.mark.parametrize("more", [(), EXACT], ids=str)
def test_a_sample_with_nan_stops_the_run_before_the_weights_are_lost(
    data: Path, done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
):
    id_ = done.splits.train[7].id
    poisoned(monkeypatch, id_)
    with pytest.raises(FloatingPointError, match=r"^the loss is inf or NaN in epoch 1,") as error:
        run(data, tmp_path / "run", *more)
    assert f"Inputs are inf or NaN too; replace or leave out: audio of {id_}" in str(error.value)
    assert "there is no checkpoint yet" in str(error.value)


def steep(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Make the gradient of these steps NaN with a finite loss (the derivative of a root at 0); steps count from 0."""
    original, calls = FusionModel.total_loss, iter(range(10**6))

    def total_loss(
        self: FusionModel, output: FusionOutput, labels: Tensor, class_weights: Tensor | None = None
    ) -> Loss:
        loss = original(self, output, labels, class_weights)
        if self.training and next(calls) in steps:
            weight = next(self.parameters())
            return replace(loss, total=loss.total + (weight - weight.detach()).square().sum().sqrt())
        return loss

    monkeypatch.setattr(FusionModel, "total_loss", total_loss)


@pytest.mark.parametrize("more", [(), EXACT], ids=str)
def test_a_nan_gradient_stops_the_run_before_the_weights_are_lost(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
):
    steep(monkeypatch, 1)
    with pytest.raises(FloatingPointError, match=r"^the gradient is inf or NaN in epoch 1,") as error:
        run(data, tmp_path / "run", *more)
    assert "there is no checkpoint yet" in str(error.value)


def test_a_scaler_skips_a_step_with_a_nan_gradient(
    data: Path, done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = done.position.step // 3
    text = StringIO()
    progress = Progress(Console(file=text, width=1000), None, lambda: 0.0)
    steep(monkeypatch, steps + 1)
    again = run(data, tmp_path / "run", "--train.precision", "float16", progress=progress)
    assert len(again.position.history) == 3
    message = f"epoch 2: 1 of {steps} steps were skipped because their gradient exceeded the range of float16"
    assert text.getvalue().count("steps were skipped") == 1
    assert message in text.getvalue()
    for name, weight in from_pretrained(tmp_path / "run").named_parameters():
        assert weight.isfinite().all(), name


def test_non_finite_inputs_are_named_by_sample_with_and_without_time_steps():
    batch = batch_of(["one", "two", "three"])
    inputs = {name: x.clone() for name, x in batch["inputs"].items()}
    inputs["image"][2, 0, 3, 4], inputs["frames"][1, 0, 0, 5, 6] = math.inf, math.nan
    result = non_finite_inputs([{**batch, "inputs": inputs}], INFO)
    assert result == ["image of three", "frames of one"]


SHORT = "the training was short, 29 optimizer steps: raise --train.epochs (now 3) or lower --train.batch_size (now 8)"


@pytest.mark.parametrize(
    ("steps", "best_epoch", "train_accuracy", "train_loss", "expected"),
    [
        (29, 1, 0.75, 0.66, SHORT),
        (29, 3, 1.0, 0.01, SHORT),
        (30, 1, 0.75, 0.66, None),  # as if it guessed: log(2) is 0.69
        (30, 3, 1.0, 0.01, "the last epoch was the best"),
        (30, 1, 1.0, 0.01, "the model overfits"),
        (30, 1, 0.55, 0.01, None),
    ],
)
def test_overfitting_is_reported_only_if_the_training_samples_are_learned(
    done: Run, steps: int, best_epoch: int, train_accuracy: float, train_loss: float, expected: str | None
):
    last = {"train_accuracy": train_accuracy, "train_loss": train_loss, "val_accuracy": 0.5}
    position = replace(done.position, step=steps, best_epoch=best_epoch, history=[*done.position.history[:-1], last])
    lines = "\n".join(hints(replace(done, position=position)))
    starts = ("the training was short", "the last epoch was the best", "the model overfits")
    assert [text in lines for text in starts] == [bool(expected) and expected.startswith(text) for text in starts]
    assert (expected or "") in lines


def test_missing_weights_and_biases_names_the_extra(data: Path, tmp_path: Path):
    with pytest.raises(ImportError, match=r"scmrl-app\[wandb\]"):
        run(data, tmp_path / "run", "--train.wandb", "mine")


def test_tensorboard_has_every_epoch(data: Path, tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = run(data, tmp_path / "run")
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("val_accuracy")] == [1, 2, 3]
    accuracy = [event.value for event in board.Scalars("val_accuracy")]
    np.testing.assert_allclose(accuracy, [record["val_accuracy"] for record in done.position.history], rtol=1e-6)
    tags = board.Tags()["scalars"]
    assert isinstance(tags, list)
    assert any(tag.startswith("firing_rate/fusion") for tag in tags)
