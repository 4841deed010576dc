"""Epochs, batch size and warm-up follow from the number of training samples unless given."""

import json
from pathlib import Path

import pytest

from app.finished import scmrl
from app.tiny import tiny_options, write_tiny_dataset
from scmrl.config.experiment import MANY_SAMPLES, Experiment, Schedule, TrainSpec
from scmrl.config.overlay import OptionError, load
from scmrl.config.recipes import RECIPES, recipe

DIGITS = 1097
"""Training samples of the embedded digits."""


def steps(samples: int, schedule: Schedule) -> int:
    return schedule.epochs * max(1, samples // schedule.batch_size)


def test_the_embedded_digits_have_the_default_schedule():
    assert TrainSpec().schedule(DIGITS) == Schedule(20, 32, 2.0)
    assert TrainSpec().schedule(MANY_SAMPLES) == Schedule(20, 32, 2.0)


def test_short_trainings_on_digits_keep_their_warm_up():
    for epochs in (3, 4, 8, 10, 100):
        assert TrainSpec(epochs=epochs).schedule(DIGITS) == Schedule(epochs, 32, 2.0)
    assert TrainSpec(epochs=1).schedule(DIGITS).warmup_epochs < 1


def test_41_samples_make_ten_steps_per_epoch_and_600_in_total():
    assert TrainSpec().schedule(41) == Schedule(60, 4, 6.0)


@pytest.mark.parametrize("samples", [2, 3, 7, 16, 41, 60, 100, 200, 255, 300, 511, 512, 700, 2000])
def test_few_samples_still_make_many_steps(samples: int):
    schedule = TrainSpec().schedule(samples)
    assert steps(samples, schedule) >= 600
    assert 4 <= schedule.batch_size <= 32
    assert schedule.batch_size in (4, 32) or 16 <= samples // schedule.batch_size < 32
    assert schedule.warmup_epochs <= 0.11 * schedule.epochs or samples >= 512


def test_explicit_values_stay_and_the_rest_follows():
    assert TrainSpec(batch_size=32).schedule(41) == Schedule(600, 32, 60.0)
    assert TrainSpec(epochs=5, batch_size=8, warmup_epochs=0.5).schedule(41) == Schedule(5, 8, 0.5)
    assert TrainSpec(epochs=9).schedule(41) == Schedule(9, 4, 6.0)


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("samples", [41, 200, 2000])
def test_an_automatic_batch_can_be_split_over_processes(samples: int, parts: int):
    batch_size = TrainSpec().schedule(samples, parts).batch_size
    assert batch_size % parts == 0
    assert parts == 1 or batch_size // parts >= 2


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("scmrl-")])
def test_recipes_of_published_datasets_state_their_schedule(name: str):
    train = recipe(name).train
    assert "auto" not in (train.epochs, train.batch_size, train.warmup_epochs)
    assert train.schedule(10) == train.schedule(MANY_SAMPLES)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--train.epochs=0", "--train.epochs = 0: must be a whole number ≥ 1 or auto"),
        ("--train.batch_size=1", "--train.batch_size = 1: must be a whole number ≥ 2 or auto"),
        ("--train.warmup_epochs=x", "--train.warmup_epochs = x: must be a number ≥ 0 or auto"),
    ],
)
def test_an_invalid_value_lists_the_valid_ones(option: str, message: str):
    with pytest.raises(OptionError) as caught:
        load(Experiment, [option])
    assert caught.value.faults == (message,)


def without_schedule(data: Path, out: Path) -> list[str]:
    """Options of a tiny run without epochs and batch size."""
    options = tiny_options(data, out)
    for name in ("--train.epochs", "--train.batch-size"):
        at = options.index(name)
        del options[at : at + 2]
    return options


def test_a_run_prints_stores_and_resumes_its_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "data").mkdir()
    data, out = write_tiny_dataset(tmp_path / "data", train=24, test=4), tmp_path / "run"
    monkeypatch.setattr("scmrl.config.experiment.STEPS", 16)
    monkeypatch.setattr("scmrl.config.experiment.EPOCHS", 2)
    options = without_schedule(data, out)
    assert scmrl(monkeypatch, "train", *options) == 0
    message = capsys.readouterr().err
    assert "training: 4 epochs of 4 steps at batch size 4, warm-up over 2.67 epochs" in message
    stored = json.loads((out / "experiment.json").read_text())["train"]
    assert (stored["epochs"], stored["batch_size"]) == (4, 4)
    assert stored["warmup_epochs"] == pytest.approx(8 / 3)

    # Another version may choose otherwise; a run stays what it was.
    monkeypatch.setattr("scmrl.config.experiment.STEPS", 32)
    assert scmrl(monkeypatch, "train", *options, "--resume") == 0
    assert json.loads((out / "experiment.json").read_text())["train"] == stored
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 4
