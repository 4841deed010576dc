"""`scmrl study sensitivity`: grids, what is wrong with them, and what is read off them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from app.finished import scmrl
from app.studies import done, study
from app.tiny import write_tiny_dataset
from scmrl.experiment import Experiment
from scmrl.study.ranges import short_names
from scmrl.study.response import Cell, advise, curves_of, edge, together
from scmrl.study.sensitivity import SensitivitySpec

ALPHA, TEMPERATURE = "model.fusion.alpha", "model.alignment.temperature"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data"))


def grid(*options: str) -> SensitivitySpec:
    """A study of the handwritten and spoken digits, which need no files to be planned."""
    from scmrl.spec_commands import read_experiment
    from scmrl.study.ranges import gather

    return read_experiment(tuple(gather(options, "--vary", "")), SensitivitySpec)


def faults(*options: str) -> str:
    """What is wrong with a study."""
    with pytest.raises(ValueError) as error:  # noqa: PT011  the text is checked by the test
        grid(*options).points()
    return str(error.value)


def test_a_grid_covers_every_combination_once_with_every_seed():
    points = grid("--vary", f"{ALPHA}=0,0.5,3", "--vary", f"{TEMPERATURE}=0.05,0.1", "--seeds", "4,7").points()

    wanted = [
        ({ALPHA: alpha, TEMPERATURE: temperature}, seed)
        for seed in (4, 7)
        for alpha in ("0", "0.5", "3")
        for temperature in ("0.05", "0.1")
    ]
    assert [(dict(point.settings), point.seed) for point in points] == wanted
    assert len({point.key for point in points}) == 12
    assert points[0].key == "alpha=0-temperature=0.05-seed4"


def test_one_at_a_time_covers_each_value_once_around_the_experiment():
    """1.5 is what the experiment says of alpha, so it is the point in the middle of both."""
    spec = grid("--vary", f"{ALPHA}=0,1.5,3", f"{TEMPERATURE}=0.05,0.07", "--one_at_a_time", "--seeds", "0")

    assert [dict(point.settings) for point in spec.points()] == [
        {}, {ALPHA: "0"}, {ALPHA: "3"}, {TEMPERATURE: "0.05"}, {TEMPERATURE: "0.07"},
    ]  # fmt: skip


def test_points_differ_in_what_is_varied_and_in_nothing_else(tmp_path: Path):
    spec = grid("--vary", f"{ALPHA}=0,0.5", "--seeds", "4", "--train.epochs", "7")
    one, other = (point.experiment(spec.base(), tmp_path) for point in spec.points())

    assert (one.model.fusion.alpha, other.model.fusion.alpha) == (0.0, 0.5)  # pyright: ignore
    assert one.train == other.train
    assert (one.train.epochs, one.seed, one.resume) == (7, 4, True)


def test_a_file_gives_what_to_vary_as_a_table_or_as_texts(tmp_path: Path):
    table, texts = tmp_path / "table.yaml", tmp_path / "texts.yaml"
    table.write_text(f"vary:\n  {ALPHA}: [0, 0.5]\n  data.modalities: ['visual', 'visual,audio']\n")
    texts.write_text(f"vary: ['{ALPHA}=0,0.5', 'data.modalities=visual|visual,audio']\n")
    typed = grid("--vary", f"{ALPHA}=0,0.5", "--vary", "data.modalities=visual|visual,audio").vary

    assert grid("--config", str(table)).vary == grid("--config", str(texts)).vary == typed
    assert typed == (f"{ALPHA}=0,0.5", "data.modalities=visual|visual,audio")


def test_hyphens_and_underscores_name_the_same_field():
    assert grid("--vary", "model.fusion.num-heads=4,8").vary == ("model.fusion.num_heads=4,8",)
    assert "given twice" in faults("--vary", "train.batch-size=8", "--vary", "train.batch_size=16")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "--vary says what to vary"),
        (
            ("--vary", "model.fusion.alhpa=0,1"),
            "--vary model.fusion.alhpa: no such option (did you mean --model.fusion.",
        ),
        (("--vary", f"{ALPHA}=0,-1"), f"--vary {ALPHA} = -1: must be greater than or equal to 0"),
        (("--vary", f"{ALPHA}=a,b"), f"--vary {ALPHA} = a: 'a' is not a number"),
        (("--vary", f"{ALPHA}="), f"--vary {ALPHA}: no values"),
        (("--vary", f"{ALPHA}=0,1,1.0"), f"--vary {ALPHA} = 1.0: the same value as 1; keep one"),
        (("--vary", f"{ALPHA}=0", f"{ALPHA}=1"), f"{ALPHA} is given twice; keep one"),
        (("--vary", "0,1"), "'0' belongs to no field"),
        (("--vary",), "--vary: needs a field"),
        (("--vary", "seed=1,2"), "--vary seed: cannot be varied; --seeds says"),
        (("--vary", "jobs=1,2"), "--vary jobs: no such option"),
        (("--vary", "data.modalities=visual|vidoe"), "no modality 'vidoe'"),
        (
            ("--vary", "model.channels=30,32", "--vary", "model.fusion.num_heads=4,8"),
            "--vary model.channels = 30: ",
        ),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_trained(options: tuple[str, ...], told: str):
    assert told in faults(*options)


def test_all_faults_are_told_together():
    told = faults("--vary", f"{ALPHA}=-1,0", "--vary", "train.epochs=0,1", "--vary", "train.lrr=1").splitlines()
    assert [line.split(":")[0] for line in told] == [
        f"--vary {ALPHA} = -1", "--vary train.epochs = 0", "--vary train.lrr",
    ]  # fmt: skip


def test_combinations_that_do_not_fit_together_are_told():
    """Each value goes with the experiment as it is; two of them do not go with each other."""
    told = faults("--vary", "model.channels=16,32", "--vary", "model.fusion.num_heads=4,32", "--model.channels", "32")
    assert "--model.channels 16 --model.fusion.num_heads 32: " in told
    assert "--model.channels 32" not in told


def test_the_command_tells_mistakes_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert scmrl(monkeypatch, "study", "sensitivity", "--vary", f"{ALPHA}=-1") == 2
    assert capsys.readouterr().err.startswith(f"scmrl: --vary {ALPHA} = -1: must be")


def test_the_last_words_of_fields_tell_them_apart():
    names = short_names(["model.fusion.alpha", "model.alignment.alpha", "train.epochs"])
    assert list(names.values()) == ["fusion.alpha", "alignment.alpha", "epochs"]


def cell(accuracies: list[float], **settings: str) -> Cell:
    """A combination with an accuracy a seed; on the test split it is always worse by 0.1."""
    named = {"a": ALPHA, "t": TEMPERATURE}
    results = {
        seed: {"validation_accuracy": value, "test_accuracy": value - 0.1, "seconds": 2.0}
        for seed, value in enumerate(accuracies)
    }
    return Cell({named[name]: value for name, value in settings.items()}, results)


def measured(accuracy: float) -> dict[str, float]:
    """What is measured at a point."""
    return {"validation_accuracy": accuracy, "test_accuracy": accuracy, "seconds": 2.0}


VALUES = {ALPHA: ("0", "10", "2"), TEMPERATURE: ("0.05", "0.1")}
CELLS = [
    cell([0.50, 0.54], a="0", t="0.05"), cell([0.60, 0.64], a="0", t="0.1"),
    cell([0.70, 0.74], a="10", t="0.05"), cell([0.80, 0.84], a="10", t="0.1"),
    cell([0.81, 0.83], a="2", t="0.05"), cell([0.70, 0.72], a="2", t="0.1"),
]  # fmt: skip


def test_a_curve_over_a_grid_is_the_mean_over_the_other_settings_seed_by_seed():
    curve = curves_of(VALUES, CELLS, None)[ALPHA]

    assert curve.values == ["0", "2", "10"]  # numbers in their order, not as texts
    np.testing.assert_allclose(curve.accuracies["2"]["validation"], [(0.81 + 0.70) / 2, (0.83 + 0.72) / 2])
    np.testing.assert_allclose(curve.accuracies["10"]["test"], [0.65, 0.69])


def test_a_curve_leaves_out_what_is_not_done_for_all_other_settings():
    """A mean over the easy half of the grid would look like an effect of the setting."""
    curves = curves_of(VALUES, CELLS[:3], None)
    assert curves[ALPHA].values == ["0"]
    assert TEMPERATURE not in curves or curves[TEMPERATURE].values == []


def test_a_curve_of_a_setting_by_itself_has_the_experiment_in_its_place():
    cells = [cell([0.9]), cell([0.5], a="0"), cell([0.7], a="3"), cell([0.6], t="0.05")]
    curve = curves_of({ALPHA: ("3", "0"), TEMPERATURE: ("0.05",)}, cells, {ALPHA: "1.5", TEMPERATURE: "0.1"})[ALPHA]
    assert {value: of["validation"] for value, of in curve.accuracies.items()} == {"0": [0.5], "1.5": [0.9], "3": [0.7]}


def test_the_best_and_what_is_as_good_are_chosen_by_validation():
    """Both of the best have a mean of 0.82; the second one's standard error is 0.01, the first one's 0.02."""
    table, notes = advise(Experiment(), curves_of(VALUES, CELLS, None), CELLS, one_at_a_time=False)
    rows = {row[0]: row for row in table.rows}

    assert rows[ALPHA][2:] == ["10", "10", "82.0 ± 2.8"]
    assert rows[TEMPERATURE][2:4] == ["0.1", "0.1"]
    assert f"The best {ALPHA}, 10, is at the edge of what was tried: try larger ones, too." in notes


def test_importance_on_a_grid_is_the_share_of_variance_of_each_setting():
    table, _ = advise(Experiment(), curves_of(VALUES, CELLS, None), CELLS, one_at_a_time=False)
    means = np.array([[0.52, 0.62], [0.72, 0.82], [0.82, 0.71]])
    shares = [means.mean(1).var() / means.var(), means.mean(0).var() / means.var()]
    assert [row[1] for row in table.rows] == [f"{share:.0%}" for share in shares]


def test_a_setting_alone_has_a_range_and_no_share_of_the_variance():
    """Its share is always the whole, were it by chance alone."""
    spec = grid("--vary", f"{ALPHA}=0,1")
    table = spec.tabulate({p.key: measured(0.5 + 0.02 * i) for i, p in enumerate(spec.points())}).tables[0]
    assert table.columns[1] == "range, points"
    assert table.rows[0][1] == "2.0"


def test_epochs_selected_on_the_test_split_are_told_if_only_some_points_were():
    spec = grid("--vary", "train.selection=validation,published")
    assert "selected on the test split" in spec.tabulate({spec.points()[0].key: measured(0.5)}).notes[0]


def test_a_best_value_whose_other_seeds_failed_is_told():
    cells = [cell([0.80], a="1"), cell([0.70, 0.72], a="2")]
    values = {ALPHA: ("1", "2")}
    _, notes = advise(Experiment(), curves_of(values, cells, None), cells, one_at_a_time=False)
    assert any(note.startswith(f"The best {ALPHA}, 1, has 1 of 2 seeds only") for note in notes)


def test_importance_waits_for_the_whole_grid():
    table, _ = advise(Experiment(), curves_of(VALUES, CELLS[:5], None), CELLS[:5], one_at_a_time=False)
    assert {row[1] for row in table.rows} == {"-"}


def test_values_within_one_standard_error_of_the_best_are_as_good():
    cells = [cell([0.80, 0.90], a="1"), cell([0.82, 0.80], a="2"), cell([0.5, 0.5], a="0"), cell([0.6, 0.6], a="3")]
    values = {ALPHA: ("0", "1", "2", "3")}
    table, notes = advise(Experiment(), curves_of(values, cells, None), cells, one_at_a_time=False)

    assert table.rows[0][2:4] == ["1", "1 to 2"]
    assert notes == [
        f"{ALPHA}: take 1, with a validation accuracy of 85.0%; as good within one standard error: 1 to 2."
    ]


@pytest.mark.parametrize(
    ("field", "best", "tried", "side"),
    [
        (ALPHA, "3", ["0", "1", "3"], "larger"),
        (ALPHA, "1", ["0", "1", "3"], ""),
        (ALPHA, "0", ["0", "1", "3"], ""),  # nothing lies below 0
        (ALPHA, "0.5", ["0.5", "1", "3"], "smaller"),
        ("train.learning_rate", "0.001", ["0.001", "0.1"], "smaller"),  # a step would go below 0, a factor would not
        ("train.epochs", "1", ["1", "5", "9"], ""),
        ("train.epochs", "9", ["1", "5", "9"], "larger"),
        ("train.average", "0.99", ["0", "0.99"], ""),  # it has to be below 1
        ("model.fusion.attention", "spatial", ["spatial", "temporal"], ""),
    ],
)
def test_a_best_value_at_the_edge_is_warned_of_if_the_setting_may_go_further(
    field: str, best: str, tried: list[str], side: str
):
    assert edge(Experiment(), field, best, tried) == side


@pytest.mark.parametrize(
    ("values", "text"),
    [(["1", "0.5", "2"], "0.5 to 2"), (["2", "0.5"], "0.5, 2"), (["1"], "1"), (["a", "b"], "a, b")],
)
def test_values_are_said_as_an_interval_only_if_none_between_is_missing(values: list[str], text: str):
    assert together(values, ["0.5", "1", "2", "3"] if values[0] != "a" else ["a", "b"]) == text


def test_a_whole_study_of_two_settings(data: Path, tmp_path: Path):
    out = tmp_path / "study"
    spec = study(SensitivitySpec, data, out, "--vary", f"{ALPHA}=0,1", f"{TEMPERATURE}=0.05,0.1", "--seeds", "3")
    folder, findings, failures = done(spec)

    assert failures == {}
    assert findings is not None
    said = json.loads((folder / "results.json").read_text())
    assert said["kind"] == "sensitivity"
    assert [plot["file"] for plot in said["plots"]] == ["curve-alpha.svg", "curve-temperature.svg", "grid.svg"]
    assert all((folder / plot["file"]).stat().st_size > 1000 for plot in said["plots"])
    points = said["tables"][-1]
    assert [row[:3] for row in points["rows"]] == [
        ["0", "0.05", "1"], ["0", "0.1", "1"], ["1", "0.05", "1"], ["1", "0.1", "1"],
    ]  # fmt: skip
    assert (folder / "points" / "alpha=1-temperature=0.1-seed3" / "model.safetensors").is_file()
    assert not (folder / "points" / "alpha=1-temperature=0.1-seed3" / "checkpoints").exists()


def test_one_failing_point_ends_nothing_and_is_told(data: Path, tmp_path: Path):
    """More samples in a step than there are is no mistake; parts that do not go up in it are, once they are counted."""
    options = ("--vary", "train.accumulate=1,3", "--seeds", "3", "--one_at_a_time")
    folder, findings, failures = done(study(SensitivitySpec, data, tmp_path / "study", *options))

    assert list(failures) == ["accumulate=3-seed3"]
    assert "train.accumulate 3" in failures["accumulate=3-seed3"]
    assert findings is not None
    assert findings.notes[0] == "1 of 2 trainings are missing."
    assert "Traceback" in (folder / "points" / "accumulate=3-seed3.log").read_text()
