"""`scmrl study ablation`: the variants, and their table."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from app.studies import run_here, study
from app.tiny import write_tiny_dataset
from scmrl import cli
from scmrl.commands.spec import read_experiment
from scmrl.console.progress import Progress
from scmrl.study.ablation.findings import tabulate
from scmrl.study.ablation.plots import accuracy_plot
from scmrl.study.ablation.spec import AblationSpec
from scmrl.study.folder import study_folder
from scmrl.study.noise.spec import NoiseSpec
from scmrl.study.points import Point, check_unique_keys, slug
from scmrl.study.run import run_study
from scmrl.study.statistics import pack_bits
from scmrl.study.tables import StudyFindings, StudyTable
from scmrl.study.variants import all_variants
from snn_fusion import METHODS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data"))


def result(accuracy: float, **more: object) -> dict[str, object]:
    """Return the measurements of a point with this test accuracy on 20 samples."""
    correct = np.arange(20) < round(20 * accuracy)
    no_branch = {"branch_rate": None, "branch_silent": None, "branch_layers": 0, "alpha_zero_accuracy": None}
    accuracies = {"test_accuracy": accuracy, "validation_accuracy": accuracy + 0.05}
    return {**accuracies, "correct": pack_bits(correct), "seconds": 3.0, **no_branch, **more}


def test_variants_are_all_methods_each_modality_alone_and_s_cmrl_without_its_parts(data: Path, tmp_path: Path):
    points = study(AblationSpec, data, tmp_path, "--data.modalities", "image,audio", "--seeds", "3,4").points()
    variants = list(dict.fromkeys(point.variant for point in points))

    assert {"image alone", "audio alone", "add", "concat", "ccssa", "ccssa spatial", "ccssa temporal"} <= {*variants}
    assert {"ccssa without alignment", "ccssa as published"} <= {*variants}
    assert [(point.variant, point.seed) for point in points] == [(v, seed) for seed in (3, 4) for v in variants]


def test_every_variant_is_a_valid_and_distinct_experiment(data: Path, tmp_path: Path):
    spec = study(AblationSpec, data, tmp_path, "--data.modalities", "image,audio", "--seeds", "3")
    experiments = [point.experiment(spec.base(), tmp_path) for point in spec.points()]
    dumps = [json.dumps([e.data.model_dump(mode="json"), e.model.model_dump(mode="json")]) for e in experiments]

    assert len(set(dumps)) == len(dumps)
    alone = next(e for e, point in zip(experiments, spec.points(), strict=True) if point.variant == "audio alone")
    assert alone.data.selected_modalities() == ("audio",)


def test_an_unknown_variant_is_refused_with_a_suggestion(data: Path, tmp_path: Path):
    spec = study(AblationSpec, data, tmp_path, "--data.modalities", "image,audio", "--variants", "ccssa,concta")
    with pytest.raises(ValueError, match=r"--variants concta: no such variant \(did you mean concat\?\)"):
        spec.points()


def test_a_single_modality_is_refused(data: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="name two or more"):
        study(AblationSpec, data, tmp_path, "--data.modalities", "audio").points()


def test_a_duplicate_variant_is_refused(data: Path, tmp_path: Path):
    spec = study(AblationSpec, data, tmp_path, "--data.modalities", "image,audio", "--variants", "add,add")
    with pytest.raises(ValueError, match="--variants add: duplicate name; keep one"):
        spec.points()


def test_variants_inconsistent_with_the_experiment_are_refused_before_training():
    """The default number of heads of some methods does not divide these channels."""
    options = ("--model.channels", "24", "--model.fusion.num_heads", "3")
    with pytest.raises(ValueError, match=r"(?s)qk: model: channels \(24\) must be divisible.*sca: ") as error:
        read_experiment(options, AblationSpec).check()
    assert str(error.value).count("qk: ") == 1  # for three seeds
    read_experiment((*options, "--variants", "add,ccssa"), AblationSpec).check()


def test_a_dollar_in_the_name_of_a_modality_starts_no_formula(tmp_path: Path):
    accuracy_plot({r"a$\foo$ alone": [0.5]}, "accuracy").savefig(tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").stat().st_size > 1000


def test_the_table_compares_each_variant_with_the_best_other_one(data: Path, tmp_path: Path):
    options = ("--data.modalities", "image,audio", "--variants", "add,concat,ccssa", "--seeds", "3,4")
    spec = study(AblationSpec, data, tmp_path, *options)
    branch = {"branch_rate": 0.125, "branch_silent": 1, "branch_layers": 4, "alpha_zero_accuracy": 0.6}
    results = {
        "add-seed3": result(0.5), "add-seed4": result(0.6),
        "concat-seed3": result(0.7), "concat-seed4": result(0.6),
        "ccssa-seed3": result(0.9, **branch), "ccssa-seed4": result(0.8, **branch),
    }  # fmt: skip
    (table,) = tabulate(spec, results).tables
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}

    assert rows["ccssa"]["test accuracy, %"] == f"85.0 ± {100 * np.std([0.9, 0.8], ddof=1):.1f}"
    assert rows["ccssa"]["branch firing rate"] == "12.5%"
    assert rows["ccssa"]["silent layers"] == "1 of 4"
    assert rows["ccssa"]["loss with alpha 0, points"].startswith("25.0 ± ")
    differences = [row[3] for row in table.rows]
    assert dict(zip(rows, differences, strict=True)) == {"add": "-30.0", "concat": "-20.0", "ccssa": "+20.0"}


def test_variants_tested_on_different_samples_are_listed_but_not_compared(data: Path, tmp_path: Path):
    variants = ["image alone", "audio alone", "add", "concat"]
    spec = study(
        AblationSpec, data, tmp_path, "--data.modalities", "image,audio", "--seeds", "3", "--variants",
        ",".join(variants),
    )  # fmt: skip
    fewer = {**result(1.0), "correct": pack_bits(np.ones(11, bool))}
    results = {
        "image-alone-seed3": {**fewer, "samples": "with images"},
        "audio-alone-seed3": {**fewer, "samples": "with audio"},
        "add-seed3": result(0.5, samples="all"),
        "concat-seed3": result(0.7, samples="all"),
    }
    findings = tabulate(spec, results)
    (table,) = findings.tables
    column = table.columns.index("vs. best other, points")
    assert {row[0]: row[column] for row in table.rows} == {
        "image alone": "-", "audio alone": "-", "add": "-20.0", "concat": "+20.0",
    }  # fmt: skip
    (reason,) = [note for note in findings.notes if "tested on the same samples" in note]
    assert reason.endswith(": image alone, audio alone.")


def test_keys_are_valid_folder_names_and_duplicates_are_refused():
    assert slug("ccssa as published/ü") == "ccssa-as-published"
    assert slug("alpha=-1.5e-3") == "alpha=-1.5e-3"
    with pytest.raises(ValueError, match="two points of the study have the key a-b-seed0"):
        check_unique_keys([Point("a b", {"x": "1"}, 0), Point("a/b", {"x": "2"}, 0)])


def test_names_are_escaped_in_markdown_and_unchanged_in_csv_and_json(tmp_path: Path):
    name = "<b>a|b</b> *x* [y](z)"
    table = StudyTable("parts", "Parts", ("variant", "accuracy"), [[name, "50.0"]])
    StudyFindings("ablation", f"On {name}", [table], (), [name]).write(tmp_path)
    document = (tmp_path / "results.md").read_text()

    assert "<b>" not in document
    assert r"\[y\](z)" in document
    row = next(line for line in document.splitlines() if line.endswith("| 50.0 |"))
    assert row.replace("\\|", "").count("|") == 3
    with (tmp_path / "parts.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["variant", "accuracy"], [name, "50.0"]]
    assert json.loads((tmp_path / "results.json").read_text())["tables"][0]["rows"] == [[name, "50.0"]]


def test_an_ablation_of_two_variants_runs_from_training_to_tables(data: Path, tmp_path: Path):
    options = ("--data.modalities", "image,audio", "--variants", "audio alone,ccssa", "--seeds", "3")
    folder, findings, failures = run_here(study(AblationSpec, data, tmp_path / "study", *options))
    more = ("--data.modalities", "image,audio", "--variants", "audio alone,add", "--seeds", "3,4", "--jobs", "0")
    again, grown, _ = run_study(
        study(AblationSpec, data, tmp_path / "study", *more), Progress(Console(quiet=True), None, lambda: 0.0)
    )

    assert failures == {}
    assert findings is not None
    # Other seeds and variants reuse finished points, and tables show the selected ones.
    assert grown is not None
    assert grown.notes[0] == "3 of 4 trainings are missing."
    assert [row[:2] for row in grown.tables[0].rows] == [row[:2] for row in findings.tables[0].rows[:1]]
    rows = {row[0]: dict(zip(findings.tables[0].columns, row, strict=True)) for row in findings.tables[0].rows}
    assert rows["audio alone"]["branch firing rate"] == "-"
    assert rows["ccssa"]["branch firing rate"].endswith("%")
    assert rows["ccssa"]["loss with alpha 0, points"] != "-"
    assert (folder / "accuracy.svg").is_file()
    assert again == folder


def test_a_folder_of_another_study_is_refused(data: Path, tmp_path: Path):
    options = ("--data.modalities", "image,audio", "--variants", "add", "--seeds", "3", "--jobs", "0")
    with Progress.create(Console(quiet=True)) as progress:
        run_study(study(AblationSpec, data, tmp_path / "study", *options), progress)
        with pytest.raises(ValueError, match=r"has other settings: train.epochs was 1 and is now 2"):
            run_study(study(AblationSpec, data, tmp_path / "study", *options, epochs=2), progress)
        with pytest.raises(ValueError, match=r"holds a study of another kind, ablation; .* --out"):
            run_study(study(NoiseSpec, data, tmp_path / "study", *options), progress)
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "thesis.tex").touch()
        with pytest.raises(ValueError, match="exists and is not a study"):
            run_study(study(AblationSpec, data, tmp_path / "other", *options), progress)


def test_a_damaged_journal_is_reported(data: Path, tmp_path: Path):
    spec = study(AblationSpec, data, tmp_path / "study", "--data.modalities", "image,audio", "--variants", "add")
    without_workers, progress = spec.model_copy(update={"jobs": 0}), Progress(Console(quiet=True), None, lambda: 0.0)
    run_study(without_workers, progress)
    (tmp_path / "study" / "journal.log").write_text("no journal\n")
    with pytest.raises(ValueError, match=r"journal\.log is damaged .* another --out"):
        run_study(without_workers, progress)


@pytest.mark.parametrize("text", ["", '{"kind": "abl', "[1]"])
def test_a_damaged_study_file_is_reported(data: Path, tmp_path: Path, text: str):
    (tmp_path / "study.json").write_text(text)
    spec = study(AblationSpec, data, tmp_path, "--data.modalities", "image,audio", "--variants", "add")
    with pytest.raises(ValueError, match=r"study\.json is damaged .* choose another --out"):
        study_folder(spec)


def test_variants_without_a_value_lists_them_with_their_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for more in (("--variants",), ("--variants", "--train.epochs", "3"), ("--train.epochs", "3", "--variants")):
        monkeypatch.setattr("sys.argv", ["scmrl", "study", "ablation", "three-modalities", *more])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        lines = capsys.readouterr().out.splitlines()
        variants = all_variants(read_experiment(("three-modalities",), AblationSpec))
        assert lines[0].startswith(f"{len(variants)} variants")
        for line, (name, options) in zip(lines[1:], variants.items(), strict=False):
            assert line.split("  --")[0].strip() == name
            assert all(f"--{field} {value}" in line for field, value in options.items())
    # The suggested command is valid.
    (suggested,) = [shlex.split(line)[1] for line in lines if line.lstrip().startswith("--variants")]
    read_experiment(("three-modalities", "--variants", suggested), AblationSpec).check()


def test_dashes_in_the_table_are_explained(data: Path, tmp_path: Path):
    spec = study(
        AblationSpec, data, tmp_path, "--data.modalities", "image,audio", "--variants", "add,sca,ccssa", "--seeds", "3"
    )
    neurons = {"branch_rate": 0.125, "branch_silent": 1, "branch_layers": 4}
    results = {
        "add-seed3": result(0.5),
        "sca-seed3": result(0.7, **neurons),
        "ccssa-seed3": result(0.9, **neurons, alpha_zero_accuracy=0.6),
    }
    findings = tabulate(spec, results)
    dashes = [note for note in findings.notes if note.startswith("A dash")]
    assert len(dashes) == 2
    assert dashes[0].startswith("A dash in 'branch firing rate'")
    assert dashes[0].endswith(": add.")
    assert "ResidualFusion" in dashes[1]
    assert dashes[1].endswith(": add, sca.")
    whole = tabulate(spec, {"ccssa-seed3": results["ccssa-seed3"]})
    assert not any(note.startswith("A dash") for note in whole.notes)


def test_every_method_cites_its_source():
    page = (Path(__file__).parents[3] / "docs" / "methods.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    specs = METHODS.specs()
    assert {*rows} == {*specs}
    for kind, row in rows.items():
        cited = set(re.findall(r"arXiv:[0-9.]+[0-9]|doi:10\.[0-9]+/[A-Za-z0-9._-]+[0-9]", specs[kind].__doc__ or ""))
        cited -= {"arXiv:2502.12488"} if kind in ("sca", "cmci", "weight_attention") else set()
        assert all(source in row for source in cited), kind
        assert kind == "none" or "Source: " in (specs[kind].__doc__ or "")
