"""`scmrl explain`: its folder, its figures and its errors."""

import json
import re
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image

from app.explain.test_explain import CCSSA, METHODS, info_of, model_of, sample_of
from app.finished import finished_run
from app.tiny import write_tiny_dataset
from datasets.ids import ids_of
from present import present
from scmrl.commands.explain import explain
from scmrl.engine.evaluate import SplitPredictions
from scmrl.explain.explanation import explain as explain_sample
from scmrl.explain.features import Features, embed, neighbor_agreement
from scmrl.explain.figures import (
    attention_figure,
    input_figure,
    input_panels,
    occlusion_figure,
    prediction_figure,
    raster_figure,
    residual_figure,
)
from scmrl.explain.folder import draw_figures, sample_folder_name, save_figure
from scmrl.explain.page import ExplainedSample, method_note, render_markdown
from scmrl.plots.style import BLUE, ORANGE
from scmrl.plots.svg import inline_svg
from snn_datasets import DatasetInfo, ModalityInfo


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    (folder / "data").mkdir()
    return finished_run(write_tiny_dataset(folder / "data", train=40, test=14), folder / "run")


@pytest.fixture(scope="module")
def explained(run: Path) -> Path:
    assert explain(run, samples=1) == 0
    return run / "explain"


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw one figure per sample, for tests of other things."""
    monkeypatch.setattr("scmrl.explain.folder.draw_figures", lambda explanation: islice(draw_figures(explanation), 1))
    monkeypatch.setattr("scmrl.explain.explain_run.embed", lambda values, seed: None)


def test_the_folder_holds_figures_numbers_and_a_page(run: Path, explained: Path, capsys: pytest.CaptureFixture[str]):
    content = json.loads((explained / "explain.json").read_text())
    (sample,) = content["samples"]
    page = (explained / "index.md").read_text()
    files = re.findall(r"!\[[^]]*\]\(([^)]*)\)", page)
    folder = sample["folder"]
    assert files == [
        *(f"{folder}/{name}.png" for name in ("prediction", "input-image", "occlusion-image")),
        *(f"{folder}/{name}.png" for name in ("input-audio", "occlusion-audio", "attention-image-reads-audio")),
        *(f"{folder}/{name}.png" for name in ("attention-audio-reads-image", "spikes", "residuals")),
        "features.png",
    ]
    for file in files:
        with Image.open(explained / file) as image:
            assert len(image.convert("L").getcolors(256) or range(256)) > 10  # not blank
        root = ElementTree.parse((explained / file).with_suffix(".svg")).getroot()
        assert root.tag.endswith("svg")
    explanation = json.loads((explained / folder / "explanation.json").read_text())
    assert explanation["id"] == sample["id"]
    assert explanation["classes"][explanation["prediction"]] == sample["prediction"]
    assert explanation["chance"] + sum(explanation["contributions"].values()) == pytest.approx(
        max(explanation["probabilities"]), abs=1e-5
    )
    assert np.shape(explanation["attention"][0]["of_source"]) == np.shape(explanation["occlusion"]["image"]) == (16, 16)
    assert {len(steps) for steps in explanation["rasters"].values()} == {3}
    assert [(each["modality"], each["stage"]) for each in content["features"]] == [
        ("image", "before"),
        ("image", "after"),
        ("audio", "before"),
        ("audio", "after"),
    ]
    assert not list(run.glob(".*"))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_files(run: Path, explained: Path, tmp_path: Path):
    assert explain(run, samples=1, out=tmp_path / "again") == 0
    names = sorted(str(path.relative_to(explained)) for path in explained.rglob("*") if path.is_file())
    assert len(names) == 4 + 1 + 2 * 9
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (explained / name).read_bytes(), name


def test_samples_by_id_keep_their_order_and_replace_an_earlier_explanation(
    run: Path, explained: Path, few_figures: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    shutil.copytree(explained, out)
    from scmrl.run_folder.files import read_experiment

    split_ids = ids_of(read_experiment(run).data.build().test)
    ids = [split_ids[5], split_ids[2]]
    assert explain(run, ids=" , ".join(ids), out=out) == 0
    content = json.loads((out / "explain.json").read_text())
    assert [sample["id"] for sample in content["samples"]] == ids
    assert sorted(path.name for path in (out / "samples").iterdir()) == [
        sample_folder_name(1, ids[0]),
        sample_folder_name(2, ids[1]),
    ]
    output = capsys.readouterr().out
    assert [line.split(": ")[0] for line in output.splitlines()[:2]] == ids
    assert "points" in output


def test_wrong_draws_misclassified_samples(
    run: Path, few_figures: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from scmrl.engine import evaluate

    original = evaluate.predict_split

    def one_mistake(*arguments: Any, **options: Any) -> SplitPredictions:
        predictions = _all_correct(original(*arguments, **options))
        predictions.probabilities[3] = predictions.probabilities[3].flip(0)
        return predictions

    monkeypatch.setattr("scmrl.explain.sampling.predict_split", one_mistake)
    from scmrl.run_folder.files import read_experiment

    split_ids = ids_of(read_experiment(run).data.build().val)
    assert explain(run, wrong=True, split="val", samples=3, out=tmp_path / "out") == 0
    assert [s["id"] for s in json.loads((tmp_path / "out" / "explain.json").read_text())["samples"]] == [split_ids[3]]

    monkeypatch.setattr("scmrl.explain.sampling.predict_split", lambda *a, **o: _all_correct(original(*a, **o)))
    with pytest.raises(ValueError, match="all 14 predictions on the test split are correct"):
        explain(run, wrong=True, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def _all_correct(predictions: SplitPredictions) -> SplitPredictions:
    predictions.probabilities[:] = torch.eye(2)[predictions.labels]
    return predictions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "--samples 0: give 1 or more"),
        ({"seed": -1}, "--seed -1 is negative"),
        ({"ids": "x", "wrong": True}, "--ids and --wrong exclude each other"),
        ({"ids": " ,"}, "--ids names no sample"),
        ({"ids": "nobody"}, r"--ids nobody: no sample of the test split has this id.*; ids look like "),
        ({"out": Path("nowhere/deep")}, "there is no folder"),
    ],
)
def test_invalid_options_are_errors(
    run: Path,
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        explain(run, **options)
    assert not list(tmp_path.iterdir())


def test_other_files_are_not_overwritten(run: Path, explained: Path, tmp_path: Path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("42")
    with pytest.raises(ValueError, match="is not empty and holds no earlier explanation"):
        explain(run, out=tmp_path / "other")
    shutil.copytree(explained, tmp_path / "earlier")
    (tmp_path / "earlier" / "thesis.txt").write_text("42")
    with pytest.raises(ValueError, match=r"holds thesis\.txt, which is not part of an earlier explanation"):
        explain(run, out=tmp_path / "earlier")
    assert (tmp_path / "earlier" / "thesis.txt").read_text() == "42"
    with pytest.raises(ValueError, match="is a file"):
        explain(run, out=tmp_path / "other" / "thesis.txt")


def test_ids_become_portable_folder_names():
    assert sample_folder_name(3, "../a b/ç:x.wav") == "03-a-b-x-wav"
    assert sample_folder_name(12, "///") == "12-sample"
    assert len(sample_folder_name(1, "x" * 300)) < 80


@pytest.mark.parametrize("method", ["none", "weights", "cmci", "qk"])
def test_every_method_is_drawn(method: str):
    names = ("touch", "smell")
    model = model_of(METHODS[method], names)
    explanation = explain_sample(model, sample_of(names), info_of(names), label=1)
    titles = [entry.title for entry, figure in draw_figures(explanation) if inline_svg(figure, name="x", alt="")]
    assert len(titles) == len(set(titles)) == 3 + 4 + len(explanation.attention)
    assert bool(method_note(model)) == (not explanation.attention)


def test_names_from_files_become_neither_markup_nor_formulas(tmp_path: Path):
    model, inputs = model_of({"kind": "none"}, ("smell",)), sample_of(("smell",))
    names = ("$\\frac$ <b>|*", "_hidden", "中")
    info = DatasetInfo("x", names, {"smell": ModalityInfo("series", (6,))})
    explanation = explain_sample(model, inputs, info, label=0)
    save_figure(prediction_figure(explanation), tmp_path / "prediction.png")
    sample = ExplainedSample("x|y", "samples/1", explanation, ("a",), [])
    text = render_markdown("a # title", ["a <note>"], [sample])
    assert r"a \# title" in text
    assert r"a \<note\>" in text
    assert r"| x\|y |" in text
    assert r"\$\\frac\$ \<b\>\|\*" in text
    assert "This sample has no a." in text


def bars_of(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def test_maps_are_drawn_at_their_positions():
    model, inputs = model_of(CCSSA, ("image", "touch")), sample_of(("image", "touch"))
    explanation = explain_sample(model, inputs, info_of(("image", "touch")), label=1)
    explanation.saliency["image"][:] = 0
    explanation.saliency["image"][2, 13] = 1
    figure = input_figure(explanation, "image")
    image = np.asarray(figure.axes[1].images[0].get_array())
    colorful = np.ptp(image, axis=2)
    assert np.unravel_index(colorful.argmax(), colorful.shape) == (2, 13)
    assert np.count_nonzero(colorful > 0.01) == 1

    explanation.occlusion["touch"][:] = 0
    explanation.occlusion["touch"][4] = -0.25
    bars = bars_of(occlusion_figure(explanation, "touch").axes[1])
    assert [bar.get_height() for bar in bars] == [-25.0 if position == 4 else 0 for position in range(20)]
    assert attention_figure(explanation, ("touch", "image")).get_suptitle() == "touch reads image"
    lines = residual_figure(explanation).axes[0].lines
    assert [line.get_label() for line in lines] == ["image reads touch", "touch reads image"]
    assert np.asarray(lines[0].get_xdata()).tolist() == [1, 2]


def test_spikes_are_drawn_at_their_positions():
    explanation = explain_sample(model_of(CCSSA, ("image", "touch")), sample_of(("image", "touch")), info_of(), label=1)
    rng = np.random.default_rng(0)
    layers = [f"fusion.readers.a_reads_b.{number}.key" for number in range(40)]
    few = {"encoders.image.position": rng.random((3, 50)) < 0.4, "fusion.readers.x": np.zeros((3, 7), bool)}
    for rasters in (few, few | {layer: rng.random((3, 9)) < 0.5 for layer in layers}):
        axes = raster_figure(replace(explanation, rasters=rasters)).axes[0]
        for image, spikes in zip(axes.images, rasters.values(), strict=False):
            assert np.array_equal(np.asarray(image.get_array())[..., 3] > 0, spikes)  # transparent elsewhere
        assert [text.get_text() for text in axes.texts[:3:2]] == ["image.position", "readers.x"]
        assert len(axes.images) == 2
        assert ("2 of 42 layers" in axes.get_title(loc="left")) == (len(rasters) == 42)


def test_events_are_opaque_at_their_positions():
    inputs = {"touch": torch.rand(1, 2, 8, 16)}
    encoders = {"touch": {"kind": "patch_splitting", "shape": (2, 8, 16), "depth": "shallow"}}
    info = info_of(("touch",), {"touch": (2, 8, 16)}, {"touch": "events"})
    explanation = explain_sample(model_of({"kind": "none"}, ("touch",), encoders), inputs, info)
    explanation.inputs["touch"][:] = 0
    explanation.inputs["touch"][1, 2, 3], explanation.inputs["touch"][0, 4, 5] = 4, 2  # on, and half as many off
    (title, figure), _ = input_panels(explanation, "touch")
    assert title == "touch; on orange, off blue, both pink"
    notes = [entry.note for entry, _ in draw_figures(explanation)]
    assert "Orange: on events" in notes[1]
    pixels = np.asarray(figure.axes[0].images[0].get_array())
    assert np.argwhere(pixels[..., 3]).tolist() == [[2, 3], [4, 5]]
    assert [to_hex(tuple(pixels[position][:3])).upper() for position in ((2, 3), (4, 5))] == [ORANGE, BLUE]
    assert pixels[[2, 4], [3, 5], 3].tolist() == [1, 0.5]


def test_chance_and_contributions_add_up_to_the_prediction():
    explanation = explain_sample(model_of(CCSSA), sample_of(), info_of(), label=1)
    bars = bars_of(prediction_figure(explanation).axes[1])
    assert [bar.get_x() + bar.get_width() for bar in bars[1:4]] == pytest.approx(
        (100 / 3 + 100 * np.cumsum(list(explanation.contributions.values()))).tolist()
    )
    assert bars[4].get_width() == pytest.approx(100 * explanation.probabilities.max())


def test_the_map_preserves_groups_and_needs_enough_samples():
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    values = (10 * np.eye(3)[labels] @ rng.normal(size=(3, 8)) + rng.normal(size=(30, 8))).astype(np.float32)
    first, second = present(embed(values, seed=1)), present(embed(values, seed=1))
    assert np.array_equal(first, second)
    assert first.shape == (30, 2)
    features = Features("x", True, first, labels, np.ones(30, bool))
    assert neighbor_agreement(features) == pytest.approx(0.9)  # of ten neighbors, nine can be of the same class
    assert embed(values[:4], seed=0) is None
    assert embed(np.ones((20, 8), np.float32), seed=0) is None


def test_a_sample_is_not_its_own_neighbor():
    # Two distant groups of eleven: the nearest ten are of the same class, until one sample changes its class.
    values = np.concatenate([np.zeros((11, 2)), np.full((11, 2), 100.0)]).astype(np.float32)
    labels = np.repeat([0, 1], 11)
    correct = np.ones(22, bool)
    assert neighbor_agreement(Features("x", False, values, labels, correct)) == 1
    labels[0] = 1
    assert neighbor_agreement(Features("x", False, values, labels, correct)) == pytest.approx(1 - (10 + 10) / 220)
    assert neighbor_agreement(Features("x", False, values[:1], labels[:1], correct[:1])) is None
