"""`scmrl study noise`: disturbances, which are the same for every model, and the findings."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from app.tiny import tiny_options, write_tiny_dataset
from scmrl.config.experiment import Experiment, TrainSpec
from scmrl.config.overlay import OptionError, load
from scmrl.console.progress import Progress
from scmrl.engine.augmentation import augment
from scmrl.engine.evaluate import predict_split
from scmrl.engine.parallel import Processes
from scmrl.engine.train import train
from scmrl.study.kinds import KINDS
from scmrl.study.noise.disturbances import Disturbance, is_applicable, target_modalities
from scmrl.study.noise.findings import area_weights, tabulate
from scmrl.study.noise.measure import measure
from scmrl.study.noise.spec import DisturbanceKind, NoiseSpec
from scmrl.study.statistics import pack_bits
from snn_datasets import Batch, DatasetInfo, DigitsSpec, ModalityInfo, Sample, collate
from snn_fusion import from_pretrained

SINGLE = Processes.single(torch.device("cpu"))
INFO = DatasetInfo(
    "x",
    ("a", "b"),
    {
        "visual": ModalityInfo("image", (3, 12, 20)),
        "film": ModalityInfo("video", (1, 12, 20), time_steps=4),
        "touch": ModalityInfo("events", (2, 30, 40), time_steps=5),
        "smell": ModalityInfo("series", (6, 50)),
        "taste": ModalityInfo("series", (8,), time_steps=4),
    },
)


def sample(id_: str) -> Sample:
    draw = torch.Generator().manual_seed(sum(map(ord, id_)))
    inputs: dict[str, Tensor] = {}
    for name, modality in INFO.modalities.items():
        shape = modality.shape if modality.time_steps is None else (modality.time_steps, *modality.shape)
        inputs[name] = 0.5 + torch.rand(shape, generator=draw) * (1 + len(id_))
    inputs["touch"] = torch.randint(0, 4, (5, 2, 30, 40), generator=draw).float()
    return Sample(id_, inputs, 0, timed=frozenset({"film", "touch", "taste"}))


def batch_of(*ids: str) -> Batch:
    return collate([sample(id_) for id_ in ids])


def disturbed(kind: DisturbanceKind, modality: str, strength: float, *ids: str) -> Tensor:
    batch = Disturbance(kind, (modality,), strength)(batch_of(*ids), INFO, seed=7)
    return batch["inputs"][modality]


@pytest.mark.parametrize("modality", ["visual", "touch", "smell"])
@pytest.mark.parametrize("snr_db", [10.0, -5.0])
def test_noise_has_the_requested_power_relative_to_its_sample(modality: str, snr_db: float):
    ids = ("a", "a much stronger one")
    clean, noisy = batch_of(*ids)["inputs"][modality], disturbed("gaussian", modality, snr_db, *ids)
    axis = 0 if INFO.modalities[modality].time_steps is None else 1
    powers: list[float] = []
    for x, y in zip(clean.unbind(axis), noisy.unbind(axis), strict=True):
        noise = (y - x).double().numpy()
        powers.append(float(np.square(noise).mean()))
        measured = 10 * np.log10(np.square(x.double().numpy()).mean() / powers[-1])
        assert measured == pytest.approx(snr_db, abs=0.6)  # at least 300 values: 5 standard deviations
        assert abs(noise.mean()) < 5 * np.sqrt(powers[-1] / noise.size)
    if modality != "touch":
        assert powers[1] > 2 * powers[0]


def test_silence_stays_silent():
    batch = batch_of("a")
    batch["inputs"]["visual"] = torch.zeros_like(batch["inputs"]["visual"])
    noisy = Disturbance("gaussian", ("visual",), -10.0)(batch, INFO, seed=0)
    assert noisy["inputs"]["visual"].count_nonzero() == 0


@pytest.mark.parametrize(
    ("modality", "share", "blank"),
    [("visual", 0.25, 6 * 10), ("film", 0.25, 6 * 10), ("touch", 0.5, 21 * 29), ("smell", 0.5, 25), ("taste", 0.25, 2)],
)
def test_occlusion_blanks_the_requested_fraction_in_one_rectangle(modality: str, share: float, blank: int):
    for id_ in "abcdefgh":
        clean, occluded = batch_of(id_)["inputs"][modality], disturbed("occlusion", modality, share, id_)
        if modality == "touch":  # contains zeros without occlusion
            covered = (occluded == 0).flatten(0, 2).all(0)
            assert covered.sum() == blank
        else:
            zeros = occluded == 0
            plane = INFO.modalities[modality].shape[1:] or INFO.modalities[modality].shape
            covered = zeros.reshape(-1, *plane)[0]
            assert covered.sum() == blank
            assert (zeros.reshape(-1, *plane) == covered).all(), "all channels and time steps alike"
            assert torch.equal(occluded[~zeros], clean[~zeros])
        indices = covered.nonzero()
        extent = indices.amax(0) - indices.amin(0) + 1
        assert int(extent.prod()) == blank, "a rectangle without holes"


def test_occlusion_reaches_every_edge():
    tops = [int((disturbed("occlusion", "visual", 0.25, f"s{i}")[0, 0] == 0).nonzero()[0, 0]) for i in range(80)]
    assert set(tops) == set(range(12 - 6 + 1))


def test_full_strength_blanks_everything():
    kinds: list[tuple[DisturbanceKind, Iterable[str]]] = [
        ("occlusion", INFO.modalities),
        ("frame-drop", ("film", "touch")),
        ("event-drop", ("touch",)),
    ]
    for kind, names in kinds:
        for name in names:
            assert disturbed(kind, name, 1.0, "a", "b").count_nonzero() == 0


def test_dropped_frames_are_blank_and_the_others_unchanged():
    clean, dropped = batch_of("a", "b")["inputs"]["film"], disturbed("frame-drop", "film", 0.5, "a", "b")
    for index in range(2):
        blank = (dropped[:, index] == 0).flatten(1).all(1)
        assert blank.sum() == 2
        assert torch.equal(dropped[~blank, index], clean[~blank, index])


@pytest.mark.parametrize("share", [0.2, 0.75])
def test_each_event_is_dropped_with_the_requested_probability(share: float):
    clean, dropped = batch_of("a", "b")["inputs"]["touch"], disturbed("event-drop", "touch", share, "a", "b")
    assert (dropped <= clean).all()
    assert torch.equal(dropped, dropped.floor())
    events = float(clean.sum())
    deviation = np.sqrt(events * share * (1 - share))
    assert float(dropped.sum()) == pytest.approx(events * (1 - share), abs=4 * deviation)
    # Binomial: of two events at one position, two, one or none remain.
    of_two = dropped[clean == 2]
    expected = [share**2, 2 * share * (1 - share), (1 - share) ** 2]
    for count, probability in enumerate(expected):
        assert float((of_two == count).double().mean()) == pytest.approx(probability, abs=0.04)


def test_a_missing_modality_is_absent_and_the_others_stay():
    ids = [f"sample {i}" for i in range(400)]
    batch: Batch = {
        "inputs": {"smell": torch.ones(400, 6, 50), "taste": torch.ones(4, 400, 8)},
        "present": {"smell": torch.ones(400, dtype=torch.bool), "taste": torch.ones(400, dtype=torch.bool)},
        "labels": torch.zeros(400, dtype=torch.int64),
        "ids": ids,
    }
    disturbed_batch = Disturbance("missing", ("smell",), 0.25)(batch, INFO, seed=0)
    assert (~disturbed_batch["present"]["smell"]).sum() == pytest.approx(100, abs=35)
    assert disturbed_batch["present"]["taste"].all()
    assert batch["present"]["smell"].all(), "the input batch is unchanged"
    assert not Disturbance("missing", ("smell",), 1.0)(batch, INFO, seed=0)["present"]["smell"].any()


CASES: list[tuple[DisturbanceKind, str, tuple[float, float]]] = [
    ("gaussian", "visual", (10.0, 0.0)),
    ("gaussian", "taste", (10.0, 0.0)),
    ("occlusion", "film", (0.2, 0.45)),
    ("occlusion", "smell", (0.2, 0.45)),
    ("frame-drop", "film", (0.25, 0.75)),
    ("event-drop", "touch", (0.2, 0.6)),
]


@pytest.mark.parametrize(("kind", "modality", "strengths"), CASES)
def test_a_sample_is_disturbed_the_same_way_in_any_batch(
    kind: DisturbanceKind, modality: str, strengths: tuple[float, float]
):
    axis = 0 if INFO.modalities[modality].time_steps is None else 1
    several = disturbed(kind, modality, strengths[1], "a", "b", "c").unbind(axis)
    reordered = disturbed(kind, modality, strengths[1], "c", "a").unbind(axis)
    alone = disturbed(kind, modality, strengths[1], "c").unbind(axis)[0]
    assert torch.equal(several[2], alone)
    assert torch.equal(reordered[0], alone)
    assert torch.equal(several[0], reordered[1])
    batch = batch_of("a", "b", "c")
    other = Disturbance(kind, (modality,), strengths[1])(batch, INFO, seed=9)["inputs"]
    assert not torch.equal(other[modality], torch.stack(several, axis)), "another seed draws differently"
    assert all(other[name] is batch["inputs"][name] for name in INFO.modalities if name != modality)


@pytest.mark.parametrize(("kind", "modality", "strengths"), CASES)
def test_a_stronger_disturbance_includes_a_weaker_one(
    kind: DisturbanceKind, modality: str, strengths: tuple[float, float]
):
    for id_ in "abcde":
        clean = batch_of(id_)["inputs"][modality]
        weak, strong = (disturbed(kind, modality, strength, id_) for strength in strengths)
        if kind == "gaussian":
            np.testing.assert_allclose((strong - clean).numpy(), (weak - clean).numpy() * 10**0.5, rtol=2e-2, atol=1e-5)
        elif kind == "event-drop":
            assert (strong <= weak).all()
        else:
            assert (strong == 0)[weak == 0].all()


def test_kinds_apply_to_suitable_modalities_only():
    batch = batch_of("a")
    assert target_modalities("event-drop", INFO, batch) == [("touch",)]
    timed = ("film", "touch", "taste")
    assert target_modalities("frame-drop", INFO, batch) == [*((name,) for name in timed), timed]
    assert target_modalities("missing", INFO, batch) == [(name,) for name in INFO.modalities]
    assert len(target_modalities("gaussian", INFO, batch)) == 6
    halves = batch["inputs"]["touch"] / 2
    assert not is_applicable("event-drop", INFO.modalities["touch"], halves), "not counts"
    with pytest.raises(ValueError, match="frame-drop does not apply to visual"):
        disturbed("frame-drop", "visual", 0.5, "a")


def test_training_noise_is_within_its_bounds_and_differs_between_epochs():
    options = TrainSpec(augment_shift=0, augment_scale=0, noise_snr_db=(-3.0, 6.0))
    ids = [f"s{i}" for i in range(24)]
    batch = batch_of(*ids)
    once, again, later = (augment(batch, INFO, options, seed=1, epoch=epoch) for epoch in (1, 1, 2))
    for name, modality in INFO.modalities.items():
        assert torch.equal(once[name], again[name])
        assert not torch.equal(once[name], later[name])
        axis = 0 if modality.time_steps is None else 1
        if once[name].select(axis, 0).numel() > 500:
            ratios: list[float] = []
            for x, y in zip(batch["inputs"][name].unbind(axis), once[name].unbind(axis), strict=True):
                ratios.append(float(10 * torch.log10(x.square().mean() / (y - x).square().mean())))
            assert -3.7 < min(ratios) < 0 < 3 < max(ratios) < 6.7
    alone = augment(batch_of("s3"), INFO, options, seed=1, epoch=1)
    assert torch.equal(alone["touch"][:, 0], once["touch"][:, 3])
    assert torch.equal(batch["inputs"]["visual"], batch_of(*ids)["inputs"]["visual"]), "the input batch is unchanged"


def test_bounds_of_training_noise_must_be_in_order():
    with pytest.raises(OptionError, match="the lower ratio must come first: -10,20"):
        load(Experiment, ["--train.noise_snr_db=20,-10"])
    assert load(Experiment, ["--train.noise_snr_db=-10,20"]).train.noise_snr_db == (-10, 20)


def spec_of(*options: str) -> NoiseSpec:
    return load(NoiseSpec, options, defaults=Experiment(data=DigitsSpec(modalities=("audio", "visual"))))


def test_every_variant_is_trained_clean_and_with_noise():
    spec = spec_of("--variants=ccssa,add,audio alone", "--train_noisy", "--seeds=3,5", "--snr_db=-5,10")
    points = spec.points()
    assert len({point.key for point in points}) == len(points) == 2 * 2 * 3
    assert [point.variant for point in points[:6]] == [
        "ccssa", "add", "audio alone",
        "ccssa trained with noise", "add trained with noise", "audio alone trained with noise",
    ]  # fmt: skip
    experiments = {point.variant: point.experiment(spec.base(), Path("x")) for point in points}
    assert experiments["ccssa"].train.noise_snr_db is None
    assert experiments["ccssa trained with noise"].train.noise_snr_db == (-5, 10)
    assert experiments["audio alone"].data.modalities == ("audio",)
    assert experiments["add"].model.fusion.model_dump()["kind"] == "none"
    assert len(spec_of("--seeds=0").points()) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variants=ccsa"], "--variants ccsa: no such variant.*ccssa"),
        (["--fractions=0.5,1.5"], "distinct fractions above 0, up to 1"),
        (["--snr_db=5,5"], "distinct ratios"),
        (["--disturbances=blur"], "disturbances"),
        (["--train.noise_snr_db=0,5"], "--train_noisy"),
        (["--data.modalities=audio"], "name two or more"),
    ],
)
def test_invalid_options_are_refused_before_training(options: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        spec_of(*options).points()


def test_area_weights_follow_the_trapezoidal_rule():
    y = np.array([0.9, 0.8, 0.5, 0.1])  # the first is undisturbed
    cases: list[tuple[DisturbanceKind, tuple[float, ...], list[float]]] = [
        ("gaussian", (20.0, 5.0, 0.0), [20.0, 5.0, 0.0]),
        ("occlusion", (0.25, 0.5, 1.0), [0.0, 0.25, 0.5, 1.0]),
    ]
    for kind, strengths, x in cases:
        height = y[1:] if kind == "gaussian" else y
        area = abs(np.trapezoid(height, x)) / (max(x) - min(x))
        assert area_weights(kind, strengths) @ y == pytest.approx(area)
    assert area_weights("gaussian", (5.0,)).tolist() == [0, 1]


def packed(correct: Sequence[int]) -> str:
    return pack_bits(np.array(correct, bool))


def results_by_hand(spec: NoiseSpec) -> dict[str, dict[str, Any]]:
    """ccssa is correct on 4 of 4 samples, and on 2 under noise; add on 3, and on 1; audio alone as add."""
    results: dict[str, dict[str, Any]] = {}
    for point in spec.points():
        modalities = ["audio"] if point.variant == "audio alone" else ["audio", "visual"]
        clean, noisy = ([1, 1, 1, 1], [1, 1, 0, 0]) if point.variant == "ccssa" else ([1, 1, 1, 0], [1, 0, 0, 0])
        if point.seed == 1 and point.variant == "ccssa":
            noisy = [1, 1, 1, 0]
        targets = [(name,) for name in modalities] + ([tuple(modalities)] if len(modalities) > 1 else [])
        results[point.key] = {
            "validation_accuracy": 0.5, "test_accuracy": sum(clean) / 4, "correct": packed(clean),
            "modalities": modalities, "most_frequent": 0.5,
            "disturbed": [
                {"kind": "gaussian", "modalities": list(target), "strength": snr, "correct": packed(noisy)}
                for target in targets for snr in (10.0, 0.0)
            ],
        }  # fmt: skip
    return results


def test_tables_list_accuracies_and_compare_the_first_variant_with_the_best_other():
    spec = spec_of("--variants=ccssa,add,audio alone", "--seeds=0,1", "--snr_db=10,0", "--disturbances=gaussian")
    results = results_by_hand(spec)
    findings = tabulate(spec, results)
    tables = {table.name: table for table in findings.tables}
    assert list(tables) == [
        "area",
        "comparison",
        "gaussian-audio",
        "gaussian-visual",
        "gaussian-audio-+-visual",
        "strengths",
    ]
    assert list(tables["area"].columns) == ["disturbed", "ccssa", "add", "audio alone"]
    assert tables["area"].rows[0] == ["nothing", "100.0 ± 0.0", "75.0 ± 0.0", "75.0 ± 0.0"]
    assert tables["area"].rows[1] == ["Gaussian noise: audio", "62.5 ± 17.7", "25.0 ± 0.0", "25.0 ± 0.0"]
    assert tables["area"].rows[2][3] == "75.0 ± 0.0", "a model of audio alone is not affected by visual noise"
    assert list(tables["gaussian-visual"].columns) == ["variant", "undisturbed", "10 dB", "0 dB"]
    assert tables["gaussian-visual"].rows[0] == ["ccssa", "100.0 ± 0.0", "62.5 ± 17.7", "62.5 ± 17.7"]
    comparison = {(row[0], row[1]): row for name in ("comparison", "strengths") for row in tables[name].rows}
    assert len(tables["comparison"].rows) == 3
    assert len(comparison) == 3 * 3
    row = comparison["Gaussian noise: audio", "0 dB"]
    assert row[2:7] == ["without", "62.5 ± 17.7", "add", "25.0 ± 0.0", "+37.5"]
    low, high = map(float, row[7].split(" to "))
    assert low <= 37.5 <= high
    assert comparison["Gaussian noise: visual", "all"][4:6] == ["audio alone", "75.0 ± 0.0"]
    assert [plot.name for plot in findings.plots] == ["gaussian"]
    assert [axes.get_title() for axes in findings.plots[0].figure.axes] == [
        "Gaussian noise: audio", "Gaussian noise: visual", "Gaussian noise: audio + visual",
    ]  # fmt: skip


def test_tables_can_be_made_of_some_points():
    spec = spec_of("--variants=ccssa,add", "--seeds=0,1", "--snr_db=10,0", "--disturbances=gaussian,event-drop")
    results = {key: value for key, value in results_by_hand(spec).items() if key == "ccssa-seed1"}
    findings = tabulate(spec, results)
    tables = {table.name: table for table in findings.tables}
    assert list(tables) == ["area", "gaussian-audio", "gaussian-visual", "gaussian-audio-+-visual"]
    assert tables["gaussian-audio"].rows == [["ccssa", "100.0", "75.0", "75.0"]]
    assert any("event-drop" in note and "none of the modalities" in note for note in findings.notes)


def test_a_trained_model_is_evaluated_under_every_disturbance(tmp_path: Path):
    tiny = tiny_options(write_tiny_dataset(tmp_path, train=48, test=10), tmp_path / "study")
    tiny[tiny.index("--train.epochs") + 1] = "1"
    options = ["--data.modalities=image,audio", "--variants=add", "--seeds=0", "--snr_db=5,-20", "--fractions=0.5,1"]
    spec = load(NoiseSpec, [*tiny, *options])
    assert KINDS["noise"].spec_type().model_validate(json.loads(spec.model_dump_json())) == spec, "as a worker loads it"
    (point,) = spec.points()
    run = train(point.experiment(spec.base(), tmp_path / "run"), Progress.create().mute())
    result = json.loads(json.dumps(measure(spec, run)))
    findings = tabulate(spec, {point.key: result})
    assert any("none of the modalities: frame-drop, event-drop" in note for note in findings.notes)
    rows = {table.name: list(table.rows) for table in findings.tables}
    occluded, missing = rows["occlusion-image-+-audio"], rows["missing-audio"]
    assert len(occluded) == len(missing) == 1
    assert run.test is not None
    assert occluded[0][:2] == missing[0][:2] == ["add", f"{100 * run.test.accuracy:.1f}"]
    assert occluded[0][-1] == "50.0", "everything is blank, so all predictions are the same class"
    without = predict_split(
        from_pretrained(run.folder), run.splits.test, batch_size=3, processes=SINGLE, modalities=["image"]
    )
    assert missing[0][-1] == f"{100 * without.accuracy:.1f}"
    assert [plot.name for plot in findings.plots] == ["gaussian", "occlusion", "missing"]
