import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from datasets.noisy_numbers import AsSteps, Jitter, NumbersReader, Times, Undeclared
from snn_datasets import Draw, Modality, ModalityInfo, Source, Stage

INFO = ModalityInfo("series", (1,), time_steps=3)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "a.txt").write_text("1 2 3")
    return Source(tmp_path / "a.txt")


def test_data_flow_from_file_to_tensor(source: Source):
    modality = Modality(
        NumbersReader(), INFO, cached=(Times(factor=2),), augment=(Jitter(width=1),), per_read=(AsSteps(),)
    )
    prepared = modality.load(source, Draw(0, "a", "m"))
    plain = modality.encode_input(prepared, Draw(0, "a", "m"), augmented=False)
    assert plain.flatten().tolist() == [2, 4, 6]
    assert not torch.equal(plain, modality.encode_input(prepared, Draw(0, "a", "m", 0), augmented=True))


def test_numbers_drawn_depend_on_seed_epoch_sample_modality_and_stage():
    def numbers(draw: Draw) -> list[float]:
        return torch.rand(4, generator=draw.generator()).tolist()

    base = Draw(1, "a", "m", 2, "x")
    assert numbers(base) == numbers(Draw(1, "a", "m", 2, "x"))
    others = [
        Draw(2, "a", "m", 2, "x"), Draw(1, "b", "m", 2, "x"), Draw(1, "a", "n", 2, "x"), Draw(1, "a", "m", 3, "x"),
        Draw(1, "a", "m", None, "x"), Draw(1, "a", "m", 2, "y"),
    ]  # fmt: skip
    drawn = [tuple(numbers(draw)) for draw in [base, *others]]
    assert len(set(drawn)) == len(drawn)


def test_two_stages_of_one_class_draw_different_numbers(source: Source):
    once, twice = (
        Modality(NumbersReader(), INFO, cached=(Jitter(width=1),) * count, per_read=(AsSteps(),)) for count in (1, 2)
    )
    a, b = (
        m.encode_input(m.load(source, Draw(0, "a", "m")), Draw(0, "a", "m"), augmented=False) for m in (once, twice)
    )
    first = a.flatten() - torch.tensor([1.0, 2, 3])
    assert not torch.allclose(b - a, first[:, None])


def test_a_stage_that_draws_must_declare_it(source: Source):
    modality = Modality(NumbersReader(), INFO, cached=(Undeclared(width=1),))
    with pytest.raises(ValueError, match=r"Undeclared.*draws = True"):
        modality.load(source, Draw(0, "a", "m"))


@pytest.mark.parametrize("slot", ["cached", "augment", "per_read"])
def test_a_lambda_is_refused_with_an_explanation(slot: str):
    lamb: Callable[..., object] = lambda value, draw: value  # noqa: E731
    with pytest.raises(ValueError, match=rf"lambda.*{slot}.*neither be compared.*subclass"):
        Modality(NumbersReader(), INFO, **{slot: (lamb,)})  # pyright: ignore[reportArgumentType]


class Holder(Stage):
    what: object

    def __call__(self, value: object, draw: Draw) -> object:
        return value


def test_a_stage_that_holds_a_function_has_no_fingerprint():
    with pytest.raises(ValueError, match=r"Holder has a field that cannot be serialized.*method"):
        Holder(what=lambda: 0).fingerprint()


def test_fingerprints_tell_fields_and_classes_apart():
    assert Times(factor=2).fingerprint() == Times(factor=2).fingerprint()
    assert Times(factor=2).fingerprint() != Times(factor=3).fingerprint()
    assert Jitter(width=1).fingerprint() != Undeclared(width=1).fingerprint()


def test_stages_and_readers_can_be_sent_to_other_processes():
    modality = Modality(NumbersReader(), INFO, cached=(Times(factor=2),))
    assert pickle.loads(pickle.dumps(modality)) == modality


def test_a_result_of_another_shape_than_declared_is_an_error(source: Source):
    modality = Modality(NumbersReader(), ModalityInfo("series", (2,), time_steps=3), per_read=(AsSteps(),))
    prepared = modality.load(source, Draw(0, "a", "m"))
    with pytest.raises(ValueError, match=r"'m' of sample 'a' gives \(3, 1\).*states.*\(3, 2\)"):
        modality.encode_input(prepared, Draw(0, "a", "m"), augmented=False)
