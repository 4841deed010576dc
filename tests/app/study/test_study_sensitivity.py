"""`scmrl study sensitivity`: grids, their errors, and the findings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from app.finished import scmrl
from app.studies import run_here, study
from app.tiny import write_tiny_dataset
from scmrl.config.experiment import Experiment
from scmrl.study.ranges import short_names
from scmrl.study.sensitivity.findings import tabulate
from scmrl.study.sensitivity.response import Combination, edge_side, format_values, recommend, response_curves
from scmrl.study.sensitivity.spec import SensitivitySpec
from snn_fusion import CCSSASpec

ALPHA, TEMPERATURE = "model.fusion.alpha", "model.alignment.temperature"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data"))


def grid(*options: str) -> SensitivitySpec:
    """Return a study of the digits, whose spec needs no files."""
    from scmrl.commands.spec import read_experiment
    from scmrl.study.ranges import merge_repeated

    return read_experiment(tuple(merge_repeated(options, "--vary", "")), SensitivitySpec)


def faults(*options: str) -> str:
    """Return the error of an invalid study."""
    with pytest.raises(ValueError) as error:  # noqa: PT011  the text is checked by the test
        grid(*options).points()
    return str(error.value)


def test_a_grid_covers_every_combination_once_with_every_seed():
    points = grid("--vary", f"{ALPHA}=0,0.5,3", "--vary", f"{TEMPERATURE}=0.05,0.1", "--seeds", "4,7").points()

    expected = [
        ({ALPHA: alpha, TEMPERATURE: temperature}, seed)
        for seed in (4, 7)
        for alpha in ("0", "0.5", "3")
        for temperature in ("0.05", "0.1")
    ]
    assert [(dict(point.settings), point.seed) for point in points] == expected
    assert len({point.key for point in points}) == 12
    assert points[0].key == "alpha=0-temperature=0.05-seed4"


def test_one_at_a_time_covers_each_value_once_around_the_experiment():
    """1.5 is the default of alpha, so it is the unchanged experiment."""
    spec = grid("--vary", f"{ALPHA}=0,1.5,3", f"{TEMPERATURE}=0.05,0.07", "--one_at_a_time", "--seeds", "0")

    assert [dict(point.settings) for point in spec.points()] == [
        {}, {ALPHA: "0"}, {ALPHA: "3"}, {TEMPERATURE: "0.05"}, {TEMPERATURE: "0.07"},
    ]  # fmt: skip


def test_points_differ_only_in_the_varied_setting(tmp_path: Path):
    spec = grid("--vary", f"{ALPHA}=0,0.5", "--seeds", "4", "--train.epochs", "7")
    one, other = (point.experiment(spec.base(), tmp_path) for point in spec.points())

    assert isinstance(one.model.fusion, CCSSASpec)
    assert isinstance(other.model.fusion, CCSSASpec)
    assert (one.model.fusion.alpha, other.model.fusion.alpha) == (0.0, 0.5)
    assert one.train == other.train
    assert (one.train.epochs, one.seed, one.resume) == (7, 4, True)


def test_a_file_gives_values_as_a_table_or_as_texts(tmp_path: Path):
    table, texts = tmp_path / "table.yaml", tmp_path / "texts.yaml"
    table.write_text(f"vary:\n  {ALPHA}: [0, 0.5]\n  data.modalities: ['visual', 'visual,audio']\n")
    texts.write_text(f"vary: ['{ALPHA}=0,0.5', 'data.modalities=visual|visual,audio']\n")
    typed = grid("--vary", f"{ALPHA}=0,0.5", "--vary", "data.modalities=visual|visual,audio").vary

    assert grid("--config", str(table)).vary == grid("--config", str(texts)).vary == typed
    assert typed == (f"{ALPHA}=0,0.5", "data.modalities=visual|visual,audio")


def test_hyphens_and_underscores_name_the_same_field():
    assert grid("--vary", "model.fusion.num-heads=4,8").vary == ("model.fusion.num_heads=4,8",)
    assert "is repeated" in faults("--vary", "train.batch-size=8", "--vary", "train.batch_size=16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--vary is required"),
        (
            ("--vary", "model.fusion.alhpa=0,1"),
            "--vary model.fusion.alhpa: no such option (did you mean --model.fusion.",
        ),
        (("--vary", f"{ALPHA}=0,-1"), f"--vary {ALPHA} = -1: must be a number ≥ 0"),
        (("--vary", f"{ALPHA}=a,b"), f"--vary {ALPHA} = a: must be a number ≥ 0"),
        (("--vary", f"{ALPHA}="), f"--vary {ALPHA}: no values"),
        (("--vary", f"{ALPHA}=0,1,1.0"), f"--vary {ALPHA} = 1.0: the same value as 1; keep one"),
        (("--vary", f"{ALPHA}=0", f"{ALPHA}=1"), f"{ALPHA} is repeated; keep one"),
        (("--vary", "0,1"), "'0' belongs to no field"),
        (("--vary",), "--vary: needs a field"),
        (("--vary", "seed=1,2"), "--vary seed: cannot be varied; use --seeds"),
        (("--vary", "jobs=1,2"), "--vary jobs: no such option"),
        (("--vary", "data.modalities=visual|vidoe"), "no modality 'vidoe'"),
        (
            ("--vary", "model.channels=30,32", "--vary", "model.fusion.num_heads=4,8"),
            "--vary model.channels = 30: ",
        ),
    ],
)
def test_invalid_values_are_refused_before_training(options: tuple[str, ...], message: str):
    assert message in faults(*options)


def test_all_faults_are_reported_together():
    lines = faults("--vary", f"{ALPHA}=-1,0", "--vary", "train.epochs=0,1", "--vary", "train.lrr=1").splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"--vary {ALPHA} = -1", "--vary train.epochs = 0", "--vary train.lrr",
    ]  # fmt: skip


def test_invalid_combinations_are_refused():
    """Each value is valid alone; two of them conflict."""
    message = faults(
        "--vary", "model.channels=16,32", "--vary", "model.fusion.num_heads=4,32", "--model.channels", "32"
    )
    assert "--model.channels 16 --model.fusion.num_heads 32: " in message
    assert "--model.channels 32" not in message


def test_the_command_reports_mistakes_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert scmrl(monkeypatch, "study", "sensitivity", "--vary", f"{ALPHA}=-1") == 2
    assert capsys.readouterr().err.startswith(f"scmrl: --vary {ALPHA} = -1: must be")


def test_short_names_are_distinct():
    names = short_names(["model.fusion.alpha", "model.alignment.alpha", "train.epochs"])
    assert list(names.values()) == ["fusion.alpha", "alignment.alpha", "epochs"]


def combination(accuracies: list[float], **settings: str) -> Combination:
    """Return a combination with one accuracy per seed; the test accuracy is lower by 0.1."""
    named = {"a": ALPHA, "t": TEMPERATURE}
    results = {
        seed: {"validation_accuracy": value, "test_accuracy": value - 0.1, "seconds": 2.0}
        for seed, value in enumerate(accuracies)
    }
    return Combination({named[name]: value for name, value in settings.items()}, results)


def measured(accuracy: float) -> dict[str, float]:
    """Return the measurements of a point."""
    return {"validation_accuracy": accuracy, "test_accuracy": accuracy, "seconds": 2.0}


VALUES = {ALPHA: ("0", "10", "2"), TEMPERATURE: ("0.05", "0.1")}
COMBINATIONS = [
    combination([0.50, 0.54], a="0", t="0.05"), combination([0.60, 0.64], a="0", t="0.1"),
    combination([0.70, 0.74], a="10", t="0.05"), combination([0.80, 0.84], a="10", t="0.1"),
    combination([0.81, 0.83], a="2", t="0.05"), combination([0.70, 0.72], a="2", t="0.1"),
]  # fmt: skip


def test_a_curve_over_a_grid_is_the_mean_over_the_other_settings_seed_by_seed():
    curve = response_curves(VALUES, COMBINATIONS, None)[ALPHA]

    assert curve.values == ["0", "2", "10"]  # sorted as numbers, not as texts
    np.testing.assert_allclose(curve.accuracies["2"]["validation"], [(0.81 + 0.70) / 2, (0.83 + 0.72) / 2])
    np.testing.assert_allclose(curve.accuracies["10"]["test"], [0.65, 0.69])


def test_a_curve_leaves_out_values_that_lack_other_settings():
    """A mean over the easy half of the grid would look like an effect of the setting."""
    curves = response_curves(VALUES, COMBINATIONS[:3], None)
    assert curves[ALPHA].values == ["0"]
    assert TEMPERATURE not in curves or curves[TEMPERATURE].values == []


def test_a_curve_of_one_setting_includes_the_unchanged_experiment():
    combinations = [
        combination([0.9]),
        combination([0.5], a="0"),
        combination([0.7], a="3"),
        combination([0.6], t="0.05"),
    ]
    curve = response_curves(
        {ALPHA: ("3", "0"), TEMPERATURE: ("0.05",)}, combinations, {ALPHA: "1.5", TEMPERATURE: "0.1"}
    )[ALPHA]
    assert {value: of["validation"] for value, of in curve.accuracies.items()} == {"0": [0.5], "1.5": [0.9], "3": [0.7]}


def test_the_best_and_equally_good_values_are_selected_by_validation():
    """The two best means are both 0.82; their standard errors are 0.02 and 0.01."""
    table, notes = recommend(
        Experiment(), response_curves(VALUES, COMBINATIONS, None), COMBINATIONS, one_at_a_time=False
    )
    rows = {row[0]: row for row in table.rows}

    assert rows[ALPHA][2:] == ["10", "10", "82.0 ± 2.8"]
    assert rows[TEMPERATURE][2:4] == ["0.1", "0.1"]
    assert f"The best {ALPHA}, 10, is the largest value tried: try larger ones, too." in notes


def test_importance_on_a_grid_is_the_fraction_of_variance_of_each_setting():
    table, _ = recommend(Experiment(), response_curves(VALUES, COMBINATIONS, None), COMBINATIONS, one_at_a_time=False)
    means = np.array([[0.52, 0.62], [0.72, 0.82], [0.82, 0.71]])
    shares = [means.mean(1).var() / means.var(), means.mean(0).var() / means.var()]
    assert [row[1] for row in table.rows] == [f"{share:.0%}" for share in shares]


def test_a_single_setting_has_a_range_and_no_importance():
    """Its fraction of the variance would always be 1."""
    spec = grid("--vary", f"{ALPHA}=0,1")
    table = tabulate(spec, {p.key: measured(0.5 + 0.02 * i) for i, p in enumerate(spec.points())}).tables[0]
    assert table.columns[1] == "range, points"
    assert table.rows[0][1] == "2.0"


def test_epochs_selected_on_the_test_split_are_noted_if_only_some_points_were():
    spec = grid("--vary", "train.selection=validation,test")
    assert "selected on the test split" in tabulate(spec, {spec.points()[0].key: measured(0.5)}).notes[0]


def test_a_best_value_with_failed_seeds_is_noted():
    combinations = [combination([0.80], a="1"), combination([0.70, 0.72], a="2")]
    values = {ALPHA: ("1", "2")}
    _, notes = recommend(Experiment(), response_curves(values, combinations, None), combinations, one_at_a_time=False)
    assert any(note.startswith(f"The best {ALPHA}, 1, has only 1 of 2 seeds;") for note in notes)


def test_importance_waits_for_the_whole_grid():
    table, _ = recommend(
        Experiment(), response_curves(VALUES, COMBINATIONS[:5], None), COMBINATIONS[:5], one_at_a_time=False
    )
    assert {row[1] for row in table.rows} == {"-"}


def test_values_within_one_standard_error_of_the_best_are_equally_good():
    combinations = [
        combination([0.80, 0.90], a="1"),
        combination([0.82, 0.80], a="2"),
        combination([0.5, 0.5], a="0"),
        combination([0.6, 0.6], a="3"),
    ]
    values = {ALPHA: ("0", "1", "2", "3")}
    table, notes = recommend(
        Experiment(), response_curves(values, combinations, None), combinations, one_at_a_time=False
    )

    assert table.rows[0][2:4] == ["1", "1 to 2"]
    assert notes == [
        f"{ALPHA}: 1 is best, with a validation accuracy of 85.0%; equally good within one standard error: 1 to 2."
    ]


@pytest.mark.parametrize(
    ("field", "best", "tried", "side"),
    [
        (ALPHA, "3", ["0", "1", "3"], "larger"),
        (ALPHA, "1", ["0", "1", "3"], ""),
        (ALPHA, "0", ["0", "1", "3"], ""),  # negative values are invalid
        (ALPHA, "0.5", ["0.5", "1", "3"], "smaller"),
        (
            "train.learning_rate",
            "0.001",
            ["0.001", "0.1"],
            "smaller",
        ),  # the same step below is negative, the same factor is not
        ("train.epochs", "1", ["1", "5", "9"], ""),
        ("train.epochs", "9", ["1", "5", "9"], "larger"),
        ("train.average", "0.99", ["0", "0.99"], ""),  # must be below 1
        ("model.fusion.attention", "spatial", ["spatial", "temporal"], ""),
    ],
)
def test_a_best_value_at_the_edge_is_noted_if_the_setting_allows_more(
    field: str, best: str, tried: list[str], side: str
):
    assert edge_side(Experiment(), field, best, tried) == side


@pytest.mark.parametrize(
    ("values", "text"),
    [(["1", "0.5", "2"], "0.5 to 2"), (["2", "0.5"], "0.5, 2"), (["1"], "1"), (["a", "b"], "a, b")],
)
def test_values_are_an_interval_only_if_none_between_is_missing(values: list[str], text: str):
    assert format_values(values, ["0.5", "1", "2", "3"] if values[0] != "a" else ["a", "b"]) == text


def test_a_study_of_two_settings_runs_from_training_to_tables(data: Path, tmp_path: Path):
    out = tmp_path / "study"
    spec = study(SensitivitySpec, data, out, "--vary", f"{ALPHA}=0,1", f"{TEMPERATURE}=0.05,0.1", "--seeds", "3")
    folder, findings, failures = run_here(spec)

    assert failures == {}
    assert findings is not None
    content = json.loads((folder / "results.json").read_text())
    assert content["kind"] == "sensitivity"
    assert [plot["file"] for plot in content["plots"]] == ["curve-alpha.svg", "curve-temperature.svg", "grid.svg"]
    assert all((folder / plot["file"]).stat().st_size > 1000 for plot in content["plots"])
    points = content["tables"][-1]
    assert [row[:3] for row in points["rows"]] == [
        ["0", "0.05", "1"], ["0", "0.1", "1"], ["1", "0.05", "1"], ["1", "0.1", "1"],
    ]  # fmt: skip
    assert (folder / "points" / "alpha=1-temperature=0.1-seed3" / "model.safetensors").is_file()
    assert not (folder / "points" / "alpha=1-temperature=0.1-seed3" / "checkpoints").exists()


def test_a_failed_point_is_reported_and_does_not_end_the_study(data: Path, tmp_path: Path):
    """train.accumulate must divide the number of batches, which is known only from the data."""
    options = ("--vary", "train.accumulate=1,3", "--seeds", "3", "--one_at_a_time")
    folder, findings, failures = run_here(study(SensitivitySpec, data, tmp_path / "study", *options))

    assert list(failures) == ["accumulate=3-seed3"]
    assert "train.accumulate 3" in failures["accumulate=3-seed3"]
    assert findings is not None
    assert findings.notes[0] == "1 of 2 trainings are missing."
    assert "Traceback" in (folder / "points" / "accumulate=3-seed3.log").read_text()
