"""The page of `scmrl report`: its content, hostile names, missing and damaged files."""

import base64
import io
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from pydantic import BaseModel
from safetensors import safe_open

from app.finished import finished_run
from app.rewriting import rewrite
from app.tiny import write_tiny_dataset
from scmrl.commands.report import report
from scmrl.config.experiment import Experiment, TrainSpec
from scmrl.energy.output import format_joules
from scmrl.plots.labels import layer_name
from scmrl.plots.run_figures import confusion_figure
from scmrl.plots.svg import inline_svg
from scmrl.report import page as page_module
from scmrl.report.analysis import SamplePrediction, select_examples
from scmrl.report.charts import confusion_image, line_chart
from scmrl.report.formatting import percent, points
from scmrl.report.page_figures import FigureBudget
from scmrl.report.settings import differing_settings, non_default_settings
from scmrl.results.run import EnergyFile, EnvironmentFile, EvaluationFile, SummaryFile

HOSTILE = "<script>alert('left')</script> & \"$x\""
MARK = "(selected on the test split, as published)"


class Page(HTMLParser):
    """A parsed page: its elements, its text, and its tables by caption."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._cell: list[str] | None = None
        self._caption: list[str] | None = None
        self._rows: list[list[str]] = []
        self.feed(self.source)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "table":
            self._rows, self._caption = [], None
        elif tag == "caption":
            self._caption = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td"):
            assert self._cell is not None
            self._rows[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        elif tag == "caption":
            assert self._caption is not None
            self._title, self._caption = " ".join("".join(self._caption).split()), None
        elif tag == "table":
            self.tables[self._title] = self._rows

    def handle_data(self, data: str) -> None:
        self.text += data
        for inner in (self._cell, self._caption):
            if inner is not None:
                inner.append(data)

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two classes; one class and the folder have hostile names."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "data").mkdir()
    manifest = write_tiny_dataset(folder / "data", train=40, test=14) / "manifest.csv"
    hostile = '"' + HOSTILE.replace('"', '""') + '"'
    manifest.write_text(manifest.read_text().replace(",left,", f",{hostile},"))
    return finished_run(folder / "data", folder / "run <i>")


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    """The page of that run; evaluation and energy are saved in the run folder."""
    out = run.parent / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module, "EXAMPLES", (2, 1))
        assert report(run, out=out) == 0
    return Page(out)


@pytest.fixture
def no_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Explain no samples, which takes longest."""
    monkeypatch.setattr(page_module, "EXAMPLES", (0, 0))


@pytest.fixture
def copied(run: Path, page: Page, no_examples: None, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_study(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    (folder / "alpha.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    content = {
        "format_version": 1,
        "kind": "sensitivity",
        "title": "How much does <alpha> matter?",
        "notes": ["3 seeds a point"],
        "tables": [
            {"title": "accuracy by alpha", "columns": ["alpha", "accuracy"], "rows": [["0.5", "61 %"], ["<b>", "7 %"]]}
        ],
        "plots": [{"title": "a curve", "file": "alpha.svg"}],
    }
    (folder / "results.json").write_text(json.dumps(content | changes))
    return folder


def test_scores_are_those_of_the_saved_evaluation(run: Path, page: Page):
    evaluation = json.loads((run / "evaluation.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    assert evaluation["accuracy"]["value"] == pytest.approx(summary["test"]["accuracy"])
    assert f"{evaluation['accuracy']['value']:.2%}" in page.text
    assert f"{evaluation['accuracy']['low']:.2%} to {evaluation['accuracy']['high']:.2%}" in page.text

    classes = page.tables["Every class, test"]
    assert [row[0] for row in classes[1:]] == [entry["class"] for entry in evaluation["classes"]]
    assert [row[2] for row in classes[1:]] == [f"{entry['recall']:.2%}" for entry in evaluation["classes"]]
    confusion = page.tables["Rows are true classes, columns predicted classes, test"]
    assert [list(map(int, row[1:])) for row in confusion[1:]] == evaluation["confusion"]
    missing = page.tables["The same model without some modalities, test"]
    assert [row[0] for row in missing[1:]] == ["image + audio", "image", "audio"]
    assert [row[2] for row in missing[1:]] == [f"{s['accuracy']['value']:.2%}" for s in evaluation["subsets"]]
    drop = 100 * (evaluation["subsets"][1]["accuracy"]["value"] - evaluation["accuracy"]["value"])
    assert float(missing[2][5].replace("\N{MINUS SIGN}", "-")) == pytest.approx(drop, abs=0.005)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("summary.json", SummaryFile),
        ("evaluation.json", EvaluationFile),
        ("environment.json", EnvironmentFile),
        ("energy.json", EnergyFile),
    ],
)
def test_the_models_of_run_files_describe_all_that_is_written(run: Path, page: Page, name: str, model: type[BaseModel]):
    content = json.loads((run / name).read_text())
    assert model.model_validate(content).model_dump(mode="json", by_alias=True) == content


def test_energy_is_that_of_the_saved_account(run: Path, page: Page):
    energy = json.loads((run / "energy.json").read_text())
    assert energy["samples"] == 14
    (title,) = [title for title in page.tables if title.startswith("operations and energy of one inference")]
    assert page.tables[title][1][0] == "spiking, paper"
    assert (run / "energy.md").is_file()
    assert (run / "evaluation.md").is_file()
    assert not list(run.glob("*.part"))


def test_both_energy_conventions_are_at_the_top(run: Path, page: Page):
    totals = json.loads((run / "energy.json").read_text())["totals"]
    top = page.text[: page.text.index("bootstrap intervals over the samples")]
    for name, convention in (("paper", "papers' convention"), ("strict", "strict count")):
        share = totals[name]["energy_j"] / totals["dense_twin"]["energy_j"]
        assert f"energy per sample, {convention}" in top
        assert (
            f"{format_joules(totals[name]['energy_j'])}estimated; {share:.0%} of the same network without spikes" in top
        )


def test_the_page_starts_with_a_verdict(run: Path, page: Page):
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert f"Accuracy is {evaluation['accuracy']['value']:.2%} on 14 test samples (95% interval " in page.text
    assert "50.00% for always predicting the most frequent class" in page.text


def test_the_model_diagram_matches_its_spec(page: Page):
    (diagram,) = [a for tag, a in page.elements if tag == "svg" and a.get("class") == "model"]
    assert diagram["aria-label"] == (
        "image (1 × 16 × 16) by a patch splitting encoder; audio (1 × 16 × 16) by a patch splitting encoder. "
        "Fusion: cross-modal attention (CCSSA): image reads audio, audio reads image. Readout into 2 classes."
    )
    assert "LIF neurons, 3 time steps. Residuals are scaled by alpha = 1.5" in page.text


def test_comparable_unimodal_runs_are_listed(run: Path, copied: Path, tmp_path: Path):
    def unimodal(name: str, modality: str, accuracy: float, **train: object) -> None:
        folder = Path(shutil.copytree(copied, tmp_path / name))

        def change(settings: dict[str, Any]) -> None:
            settings["data"]["modalities"] = [modality]
            settings["train"] |= train

        rewrite(folder / "experiment.json", change)
        summary = json.loads((folder / "summary.json").read_text())
        edit(folder / "summary.json", modalities=[modality], test=summary["test"] | {"accuracy": accuracy})

    unimodal("sound", "audio", 0.25)
    unimodal("sound of other epochs", "audio", 0.75, epochs=7)
    unimodal("sight", "image", 0.125, learning_rate=0.5)
    unimodal("smell", "smell", 0.5)
    unimodal("broken", "image", 0.5)
    (tmp_path / "broken" / "summary.json").write_text("{")
    unimodal("other data", "image", 0.9)
    edit(tmp_path / "other data" / "summary.json", data="something else")
    unimodal("other samples", "audio", 0.9)
    rewrite(
        tmp_path / "other samples" / "inputs.json",
        lambda stored: stored["fingerprint"]["test"].update(labels="others"),
    )
    report(copied, out=tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    (rows,) = [rows for title, rows in page.tables.items() if title.startswith("This run and comparable runs")]
    assert [[row[0], row[1], row[2], row[5]] for row in rows[2:]] == [
        ["image", "sight", "12.50%", "train.learning_rate differ"],
        ["audio", "sound", "25.00%", "same"],
    ]
    assert re.search("audio, the best single modality|audio alone reaches", page.text)
    assert "no comparable run" not in page.text


def test_without_unimodal_runs_the_page_explains_how_to_train_one(page: Page):
    assert "There is no comparable run on image or audio alone" in page.text


def test_settings_data_rates_and_curves_are_shown(page: Page):
    settings = {row[0]: row[1:] for row in page.tables["Settings that are not the defaults"][1:]}
    assert settings["train.epochs"] == ["1", "auto"]
    assert settings["data.kind"] == ["manifest", "digits"]
    assert "out" not in settings
    for words in (
        "learning_rate: 0.01",
        "license",
        "splits",
        "scmrl train",
        "torch",
        "selected epoch (1)",
        "Alpha is fixed",
    ):
        assert words in page.text
    alphas = next(rows for title, rows in page.tables.items() if title.startswith("Scale alpha"))
    assert [row[:3] for row in alphas[1:]] == [["image", "audio", "1.5"], ["audio", "image", "1.5"]]
    rates = [rows for title, rows in page.tables.items() if title.startswith("Firing rates")]
    assert sum(len(rows) - 1 for rows in rates) == 32
    labels = [a["aria-label"] for tag, a in page.elements if tag == "svg" and a.get("role") == "img"]
    curves = [label for label in labels if "by epoch" in label]
    assert [label.partition(" by ")[0] for label in curves] == ["loss", "accuracy", "alignment loss"]


def test_samples_are_shown_with_figures_and_the_true_class(page: Page):
    assert page.source.count('<article class="example">') == 2
    figures = [a for tag, a in page.elements if tag == "svg" and "sample" in a.get("aria-label", "")]
    assert len(figures) == 2 * (2 * 2 + 2)  # inputs and saliency of two modalities; spikes and residuals
    assert len({a["aria-label"] for a in figures}) == len(figures)
    assert all(a["role"] == "img" for a in figures)
    assert all(a["href"].startswith("data:image/png;base64,") for tag, a in page.elements if tag == "image")
    assert "(true)" in " ".join(row[0] for row in page.tables["Probabilities"])


def test_names_from_files_stay_text(page: Page):
    assert HOSTILE in page.text
    assert "run <i>" in page.text
    assert not {"script", "i>"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_unprintable_characters_are_shown_as_codes(copied: Path, tmp_path: Path):
    evaluation = json.loads((copied / "evaluation.json").read_text())
    evaluation["classes"][0]["class"] = "a\x1b[2J\u202eb"
    (copied / "evaluation.json").write_text(json.dumps(evaluation))
    report(copied, out=tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert r"a\x1b[2J\u202eb" in page.text
    assert not {"\x1b", "\u202e"} & set(page.source)


def test_the_page_is_self_contained(page: Page):
    assert len(page.source.encode()) < 2_000_000
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "iframe", "object", "base"})
    for address in [*page.attributes("src"), *page.attributes("href")]:
        assert address.startswith(("data:", "#"))
    assert not re.search(r"https?://|@import|url\((?!#)", page.source)


def test_links_have_targets_and_identifiers_are_unique(page: Page):
    ids = Counter(page.attributes("id"))
    assert max(ids.values()) == 1
    links = [address for address in page.attributes("href") if address.startswith("#")]
    assert len(links) > 10
    assert {link[1:] for link in links} <= ids.keys()
    assert ("html", {"lang": "en"}) in page.elements


def test_saved_results_are_read_from_the_folder(copied: Path, tmp_path: Path):
    edit(copied / "evaluation.json", accuracy={"value": 0.1234, "low": 0.1, "high": 0.2}, mark="a special mark")
    assert report(copied, out=tmp_path / "page.html") == 0
    page = Page(tmp_path / "page.html")
    assert "12.34%" in page.text
    assert "Every class, test (a special mark)" in page.tables


def test_every_table_of_a_run_that_selected_on_the_test_split_is_marked(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(page_module, "EXAMPLES", (1, 1))
    rewrite(copied / "experiment.json", lambda settings: settings["train"].update(selection="test"))
    edit(copied / "summary.json", selection="test")
    (copied / "evaluation.json").unlink()
    report(copied, out=tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    unmarked = [title for title in page.tables if MARK not in title]
    # Settings, and single samples, which have one mark above them.
    assert unmarked == ["Probabilities", "Contributions, points", "Settings that are not the defaults"]
    assert "so they overestimate the accuracy on new data" in page.text
    # The validation split of such a training is the test split.
    assert "test (selects the epoch, as published)" in page.text
    assert "alidation:" not in page.text


def test_a_run_without_its_data_is_reported_from_its_folder(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rewrite(copied / "experiment.json", lambda settings: settings["data"].update(root=str(tmp_path / "gone")))
    for name in ("evaluation.json", "energy.json", "environment.json", "metrics.jsonl"):
        (copied / name).unlink()
    assert report(copied, out=tmp_path / "page.html") == 0
    page = Page(tmp_path / "page.html")
    test = json.loads((copied / "summary.json").read_text())["test"]
    assert f"{test['accuracy']:.2%}no interval" in page.text
    assert [
        list(map(int, row[1:])) for row in page.tables["Rows are true classes, columns predicted classes, test"][1:]
    ] == test["confusion"]
    assert "This page is without intervals" in page.text
    assert "and without energy" in page.text
    assert "and without explained samples" in page.text
    assert "holds no metrics.jsonl" in page.text
    assert "The same model without some modalities" not in page.text
    why = f"the data of {copied} are no longer at {tmp_path / 'gone'}"
    assert f"copy: the page is without energy: {why}" in capsys.readouterr().err
    assert not (copied / "evaluation.json").exists()


def test_a_run_without_its_model_is_reported_without_it(copied: Path, tmp_path: Path):
    (copied / "model.safetensors").unlink()
    assert report(copied, out=tmp_path / "page.html") == 0
    page = Page(tmp_path / "page.html")
    assert f"the scales alpha: {copied} holds no model.safetensors" in page.text
    assert "Cross-modal fusion" not in page.text
    assert "Every class, test" in page.tables
    assert "#run-1-branch" not in page.attributes("href")


def test_a_run_of_one_modality(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page_module, "EXAMPLES", (1, 1))
    unimodal = finished_run(run.parent / "data", tmp_path / "alone", "--data.modalities", "audio")
    assert report(unimodal, out=tmp_path / "page.html") == 0
    page = Page(tmp_path / "page.html")
    assert "audio of data" in page.text
    assert not any(
        words in page.text
        for words in ("Cross-modal fusion", "The same model without some modalities", "alignment loss")
    )
    assert [row[0] for row in page.tables["Contributions, points"][1:]] == ["audio"]


def test_several_runs_start_with_a_comparison(run: Path, copied: Path, tmp_path: Path):
    rewrite(copied / "experiment.json", lambda settings: settings["model"]["fusion"].update(alpha=0.75))
    summary = json.loads((copied / "summary.json").read_text())
    edit(copied / "summary.json", rates=summary["rates"], seconds=61.0)
    study = write_study(tmp_path / "study")
    assert report(run, copied, study, out=tmp_path / "page.html") == 0
    page = Page(tmp_path / "page.html")
    (title,) = [title for title in page.tables if title.startswith("Scores of all runs")]
    assert [row[0] for row in page.tables[title][1:]] == ["run <i>", "copy"]
    assert page.tables[title][0][4:8] == ["parameters", "energy, papers", "energy, strict", "training"]
    with safe_open(run / "model.safetensors", "np") as weights:
        count = sum(
            np.prod(weights.get_slice(name).get_shape(), dtype=int)
            for name in weights.keys()  # noqa: SIM118 - it is not a mapping
            if not name.endswith(("running_mean", "running_var", "num_batches_tracked", "spike.scale"))
        )
    assert [row[4] for row in page.tables[title][1:]] == [f"{count:,}"] * 2
    assert page.tables[title][2][7] == "1 min 01 s"
    assert page.tables["Settings that differ"][1:] == [["model.fusion.alpha", "1.5", "0.75"]]
    assert page.text.index("2 runs and 1 study") < page.text.index("Comparison") < page.text.index("run <i> Model")
    assert page.tables["accuracy by alpha"] == [["alpha", "accuracy"], ["0.5", "61 %"], ["<b>", "7 %"]]
    assert "How much does <alpha> matter?" in page.text
    assert "3 seeds a point" in page.text
    (plot,) = [a["src"] for tag, a in page.elements if tag == "img" and a["alt"] == "a curve"]
    assert base64.b64decode(plot.removeprefix("data:image/svg+xml;base64,")).startswith(b"<svg")
    assert len(page.source.encode()) < 2_000_000


@pytest.mark.slow
def test_figures_that_do_not_fit_are_omitted_and_counted(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page_module, "EXAMPLES", (1, 1))
    monkeypatch.setattr(page_module, "FigureBudget", lambda: FigureBudget(1000))
    study = write_study(tmp_path / "study")
    (study / "alpha.svg").write_text(f"<svg>{'x' * 1000}</svg>")
    report(copied, study, out=tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert "1 sample did not fit" in page.text
    assert "The plot alpha.svg is too large for this page" in page.text


def test_silent_and_saturated_layers_are_marked(copied: Path, tmp_path: Path):
    rates = dict.fromkeys(json.loads((copied / "evaluation.json").read_text())["rates"], 0.2)
    first, second = [name for name in rates if name.startswith("fusion.")][:2]
    edit(copied / "evaluation.json", rates=rates | {first: 0.0002, second: 0.97})
    report(copied, out=tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    states = {row[0]: row[-1] for row in page.tables["Firing rates, cross-modal fusion, test"][1:]}
    assert states[layer_name(first)] == "silent"
    assert states[layer_name(second)] == "saturated"
    assert sum(state != "" for state in states.values()) == 2
    assert "cross-modal fusion: 22 layers, 0.02% to 97.00%, 1 silent, 1 saturated" in page.text


def test_the_page_is_opened_in_the_browser(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    report(write_study(tmp_path / "study"), out=tmp_path / "page.html", open_=True)
    assert opened == [(tmp_path / "page.html").as_uri()]


DAMAGES = {
    "experiment.json": ("{", "experiment.json is damaged:"),
    "summary.json": ('{"data": 3}', "summary.json is damaged: data:"),
    "environment.json": ("[]", "environment.json is damaged:"),
    "metrics.jsonl": ('{"epoch": 1}\n{"epoch"', "metrics.jsonl is damaged in line 2:"),
    "evaluation.json": ('{"format_version": 2}', "evaluation.json is damaged: format_version:"),
    "energy.json": ("nothing", "energy.json is damaged:"),
    "spec.json": ("{", "spec.json is not a model's spec"),
    "model.safetensors": ("no weights", "model.safetensors is damaged:"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_named_in_one_line(copied: Path, tmp_path: Path, name: str):
    content, message = DAMAGES[name]
    (copied / name).write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        report(copied, out=tmp_path / "page.html")
    assert "\n" not in str(error.value)
    assert str(copied) in str(error.value)
    assert not (tmp_path / "page.html").exists()


def test_folders_that_cannot_be_reported(copied: Path, tmp_path: Path):
    out = tmp_path / "page.html"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty is neither a run nor a study"):
        report(tmp_path / "empty", out=out)
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        report(tmp_path / "nowhere", out=out)
    with pytest.raises(ValueError, match="is given twice"):
        report(copied, copied, out=out)
    (copied / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"is not finished: it holds no summary\.json; .*--resume --out"):
        report(copied, out=out)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "study.json").write_text("{}")
    with pytest.raises(ValueError, match=r"study\.json is damaged"):
        report(tmp_path / "begun", out=out)
    with pytest.raises(ValueError, match="is a folder; name a file"):
        report(copied, out=tmp_path)
    with pytest.raises(ValueError, match="there is no folder"):
        report(copied, out=tmp_path / "nowhere" / "page.html")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plots": [{"title": "x", "file": "../secret.png"}]}, "is not a file name that ends in"),
        ({"plots": [{"title": "x", "file": "results.json"}]}, "is not a file name that ends in"),
        ({"plots": [{"title": "x", "file": "gone.svg"}]}, "names the plot gone.svg, which is missing"),
        ({"tables": [{"title": "x", "columns": ["a", "b"], "rows": [["1"]]}]}, "row 1 has 1 cells"),
    ],
)
def test_studies_that_cannot_be_reported(
    tmp_path: Path, changes: dict[str, list[dict[str, Any]]] | dict[str, list[dict[str, str]]], message: str
):
    study = write_study(tmp_path / "study", **changes)
    with pytest.raises(ValueError, match=message) as error:
        report(study, out=tmp_path / "page.html")
    assert "\n" not in str(error.value)


def test_examples_are_confident_mistakes_of_different_classes_and_a_correct_one():
    predictions = [
        SamplePrediction(index, label, predicted, confidence)
        for index, (label, predicted, confidence) in enumerate(
            [(0, 0, 0.9), (0, 1, 0.8), (0, 1, 0.95), (1, 1, 0.99), (1, 0, 0.5), (2, 0, 0.7)]
        )
    ]
    assert [each.index for each in select_examples(predictions, 4)] == [2, 5, 4, 3]
    assert [each.index for each in select_examples(predictions, 5)] == [2, 5, 4, 1, 3]
    assert [each.index for each in select_examples(predictions, 1)] == [3]
    wrong = [each for each in predictions if each.label != each.predicted]
    correct = [each for each in predictions if each.label == each.predicted]
    assert [each.index for each in select_examples(wrong, 2)] == [2, 5]
    assert [each.index for each in select_examples(correct, 3)] == [3, 0]


def test_settings_are_listed_if_they_are_not_the_defaults():
    default = Experiment()
    assert non_default_settings(default) == []
    changed = Experiment.model_validate(
        {"model": {"fusion": {"kind": "ccssa", "alpha": 0.5}, "encoders": {"audio": None}}, "out": "x", "seed": 3}
    )
    assert [(s.name, s.value, s.default) for s in non_default_settings(changed)] == [
        ("data.modalities", "visual", "[]"),
        ("model.fusion.alpha", "0.5", "1.5"),
        ("model.encoders.audio", "none", "-"),
        ("seed", "3", "0"),
    ]
    other = default.model_copy(update={"train": TrainSpec(epochs=7), "out": Path("y")})
    assert differing_settings([default, other, default]) == [("train.epochs", ("auto", "7", "auto"))]


def test_a_large_confusion_matrix_has_one_pixel_per_cell():
    counts = np.zeros((43, 43), dtype=int)
    counts[2, 2], counts[2, 40], counts[7, 7] = 3, 1, 9
    url = confusion_image(counts.tolist())
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("L")).astype(int)
    assert pixels.shape == (43, 43)
    assert pixels[7, 7] < pixels[2, 2] < pixels[2, 40] < pixels[40, 2]


def test_class_names_are_no_formulas_and_leave_space_for_the_matrix(tmp_path: Path):
    figure = confusion_figure([[1, 0], [0, 1]], [r"$\frac$", "x" * 200], title="")
    figure.savefig(tmp_path / "confusion.png")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [r"$\frac$", "x" * 29 + "…"]


def test_charts_use_the_colors_of_the_page():
    history = [{"epoch": epoch, "val_accuracy": epoch / 10} for epoch in (1.0, 2.0, 3.0)]
    chart = line_chart([("<one>", history, "val_accuracy"), ("$two", history, "val_accuracy")], "accuracy", 2, name="a")
    assert [entry.label for entry in chart.legend] == ["<one>", "$two", "selected epoch (2)"]
    assert "currentColor" in chart.svg
    assert not re.search(r"#000|http|<style|<metadata|DejaVu", chart.svg)
    assert "accuracy by epoch: &lt;one&gt; from 10 % in epoch 1 to 30 % in epoch 3" in chart.svg
    assert chart == line_chart(
        [("<one>", history, "val_accuracy"), ("$two", history, "val_accuracy")], "accuracy", 2, name="a"
    )


def test_rounded_numbers_keep_their_meaning():
    shares = (0.0, 1e-9, 0.00005, 0.12345, 0.99994, 0.99999, 1.0)
    assert [percent(share) for share in shares] == [
        *("0.00%", "< 0.01%", "0.01%", "12.35%", "99.99%", "> 99.99%", "100.00%"),
    ]
    assert [points(each) for each in (-0.1, 0.2, 0.0, -1e-6, 1e-6)] == ["\N{MINUS SIGN}10.00", "+20.00", *["0.00"] * 3]


def test_a_class_that_was_never_predicted_has_no_precision(copied: Path, tmp_path: Path):
    classes = json.loads((copied / "evaluation.json").read_text())["classes"]
    classes[0] |= {"precision": 0.5, "recall": 1.0, "samples": 14}
    classes[1] |= {"precision": 0.0, "recall": 0.0, "f1": 0.0, "samples": 0}
    edit(copied / "evaluation.json", classes=classes, confusion=[[14, 0], [0, 0]])
    report(copied, out=tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert page.tables["Every class, test"][1][1:3] == ["50.00%", "100.00%"]
    assert page.tables["Every class, test"][2][1:] == ["-", "-", "-", "", "0"]
    assert "A class that was never predicted has no precision." in page.text
    assert "No sample was misclassified." in page.text


def test_very_many_classes_are_collapsed(copied: Path, tmp_path: Path):
    names = [f"<b>{number}</b>" for number in range(100)]
    score = {"precision": 0.5, "recall": 0.5, "f1": 0.5, "samples": 2}
    confusion = (np.eye(100, dtype=int) + np.roll(np.eye(100, dtype=int), 1, axis=1)).tolist()
    edit(copied / "evaluation.json", classes=[{"class": name} | score for name in names], confusion=confusion)
    report(copied, out=tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    summary = "100 classes: the 60 with the lowest and the highest F1; the other 40 are in evaluation.json"
    assert re.search(rf"<details>\s*<summary>{summary}</summary>", page.source)
    assert [row[0] for row in page.tables["Classes, lowest F1 first, test"][1:]] == names[:40] + names[80:]
    assert "Rows are true classes, columns predicted classes, test" not in page.tables
    assert any(a.get("alt", "").startswith("confusion matrix of 100 classes") for _, a in page.elements)
    assert page.tables["Most frequent mistakes, test"][1] == ["<b>0</b>", "<b>1</b>", "1", "50.00%"]


def test_images_in_figures_keep_their_pixels_and_transparency():
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (9, 7, 1)).repeat(3, 2).astype(np.uint8)
    marks = np.zeros((3, 11, 4))
    marks[rng.random((3, 11)) < 0.3] = (0, 114 / 255, 178 / 255, 1)
    for pixels in (gray, (255 * marks).round().astype(np.uint8)):
        figure = Figure()
        figure.add_subplot().imshow(pixels, interpolation="none")
        (data,) = re.findall(r'href="data:image/png;base64,([^"]*)"', inline_svg(figure, name="a", alt=""))
        decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
        channels = pixels.shape[2]
        assert np.array_equal(decoded[..., :channels][decoded[..., 3] > 0], pixels[..., :channels][decoded[..., 3] > 0])
        assert np.array_equal(decoded[..., 3], pixels[..., 3] if channels == 4 else np.full((9, 7), 255))


def test_large_images_are_shrunk_and_keep_their_size_on_the_page():
    figure = Figure()
    axes = figure.add_subplot()
    axes.imshow(np.random.default_rng(0).random((20, 3000, 3)), interpolation="none", aspect="auto")
    drawing = inline_svg(figure, name="a", alt="")
    (data,) = re.findall(r'href="data:image/png;base64,([^"]*)"', drawing)
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (320, 20)
    assert len(data) < 16_000  # of 240,000
    (image,) = re.findall("<image[^>]*>", drawing)
    assert 'width="3000" height="20"' in image
    assert 'preserveAspectRatio="none"' in image
