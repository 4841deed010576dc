"""`scmrl explain`: the folder it leaves, its pictures, and the mistakes it tells."""

import json
import re
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from app.explain.test_explain import CCSSA, METHODS, info_of, model_of, sample_of
from app.finished import finished_run
from app.tiny import write_tiny_dataset
from scmrl.commands.explain import explain
from scmrl.explain.explanation import explain as explain_sample
from scmrl.explain.features import Features, embedded, neighbors_agree
from scmrl.explain.folder import drawn, sample_folder, save
from scmrl.explain.page import Shown, about, page
from scmrl.explain.pictures import (
    answer_picture,
    attention_picture,
    input_panels,
    input_picture,
    occlusion_picture,
    raster_picture,
    residual_picture,
)
from scmrl.report.figures import BLUE, ORANGE
from scmrl.report.svg import inline
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
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture a sample, for tests that are about something else."""
    monkeypatch.setattr("scmrl.explain.folder.drawn", lambda found: islice(drawn(found), 1))
    monkeypatch.setattr("scmrl.explain.making.embedded", lambda values, seed: None)


def test_it_leaves_pictures_numbers_and_a_page_that_shows_them(run, explained, capsys):
    told = json.loads((explained / "explain.json").read_text())
    (sample,) = told["samples"]
    page = (explained / "index.md").read_text()
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", page)
    folder = sample["folder"]
    assert pictures == [
        *(f"{folder}/{name}.png" for name in ("answer", "input-image", "occlusion-image")),
        *(f"{folder}/{name}.png" for name in ("input-audio", "occlusion-audio", "attention-image-reads-audio")),
        *(f"{folder}/{name}.png" for name in ("attention-audio-reads-image", "spikes", "residuals")),
        "features.png",
    ]
    for picture in pictures:
        with Image.open(explained / picture) as image:
            assert len(image.convert("L").getcolors(256) or range(256)) > 10  # something is drawn on it
        root = ElementTree.parse((explained / picture).with_suffix(".svg")).getroot()
        assert root.tag.endswith("svg")
    found = json.loads((explained / folder / "explanation.json").read_text())
    assert found["id"] == sample["id"]
    assert found["classes"][found["answer"]] == sample["answer"]
    assert found["chance"] + sum(found["contribution"].values()) == pytest.approx(max(found["probabilities"]), abs=1e-5)
    assert np.shape(found["attention"][0]["read"]) == np.shape(found["occlusion"]["image"]) == (16, 16)
    assert {len(steps) for steps in found["rasters"].values()} == {3}
    assert [(each["sense"], each["stage"]) for each in told["features"]] == [
        ("image", "before"),
        ("image", "after"),
        ("audio", "before"),
        ("audio", "after"),
    ]
    assert not list(run.glob(".*"))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_files(run, explained, tmp_path):
    assert explain(run, samples=1, out=tmp_path / "again") == 0
    names = sorted(str(path.relative_to(explained)) for path in explained.rglob("*") if path.is_file())
    assert len(names) == 4 + 1 + 2 * 9
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (explained / name).read_bytes(), name


def test_named_samples_come_in_their_order_and_replace_what_was_there(run, explained, few_pictures, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(explained, out)
    from scmrl.run_folder.files import read_experiment

    known = read_experiment(run).data.build().test.ids
    ids = [known[5], known[2]]
    assert explain(run, ids=" , ".join(ids), out=out) == 0
    told = json.loads((out / "explain.json").read_text())
    assert [sample["id"] for sample in told["samples"]] == ids
    assert sorted(path.name for path in (out / "samples").iterdir()) == [
        sample_folder(1, ids[0]),
        sample_folder(2, ids[1]),
    ]
    printed = capsys.readouterr().out
    assert [line.split(": ")[0] for line in printed.splitlines()[:2]] == ids
    assert "points" in printed


def test_mistakes_are_drawn_among_the_mistakes(run, few_pictures, tmp_path, monkeypatch):
    from scmrl.engine import evaluate

    real = evaluate.predict_split

    def upside_down(*arguments, **options):
        said = real(*arguments, **options)
        said.probabilities[:] = torch.eye(2)[said.labels]
        said.probabilities[3] = said.probabilities[3].flip(0)
        return said

    monkeypatch.setattr("scmrl.explain.sampling.predict_split", upside_down)
    from scmrl.run_folder.files import read_experiment

    known = read_experiment(run).data.build().val.ids
    assert explain(run, wrong=True, split="val", samples=3, out=tmp_path / "out") == 0
    assert [s["id"] for s in json.loads((tmp_path / "out" / "explain.json").read_text())["samples"]] == [known[3]]

    monkeypatch.setattr("scmrl.explain.sampling.predict_split", lambda *a, **o: _all_right(real(*a, **o)))
    with pytest.raises(ValueError, match="the model is right about all 14 samples of the test split"):
        explain(run, wrong=True, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def _all_right(said):
    said.probabilities[:] = torch.eye(2)[said.labels]
    return said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "--samples 0: give 1 or more"),
        ({"seed": -1}, "--seed -1 is negative"),
        ({"ids": "x", "wrong": True}, "--ids and --wrong exclude each other"),
        ({"ids": " ,"}, "--ids names no sample"),
        ({"ids": "nobody"}, r"--ids nobody: no sample of the test split has this id.*; they are called "),
        ({"out": Path("nowhere/deep")}, "there is no folder"),
    ],
)
def test_mistakes_are_told(run, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        explain(run, **options)
    assert not list(tmp_path.iterdir())


def test_nothing_foreign_is_overwritten(run, explained, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("42")
    with pytest.raises(ValueError, match="is not empty and holds no earlier explanation"):
        explain(run, out=tmp_path / "mine")
    shutil.copytree(explained, tmp_path / "earlier")
    (tmp_path / "earlier" / "thesis.txt").write_text("42")
    with pytest.raises(ValueError, match=r"holds thesis\.txt, which is not of an earlier explanation"):
        explain(run, out=tmp_path / "earlier")
    assert (tmp_path / "earlier" / "thesis.txt").read_text() == "42"
    with pytest.raises(ValueError, match="is a file"):
        explain(run, out=tmp_path / "mine" / "thesis.txt")


def test_ids_become_names_that_any_file_system_takes():
    assert sample_folder(3, "../a b/ç:x.wav") == "03-a-b-x-wav"
    assert sample_folder(12, "///") == "12-sample"
    assert len(sample_folder(1, "x" * 300)) < 80


@pytest.mark.parametrize("method", ["none", "weights", "cmci", "qk"])
def test_every_method_is_drawn(method):
    names = ("touch", "smell")
    model = model_of(METHODS[method], names)
    found = explain_sample(model, sample_of(names), info_of(names), label=1)
    titles = [picture.title for picture, figure in drawn(found) if inline(figure, name="x", alt="")]
    assert len(titles) == len(set(titles)) == 3 + 4 + len(found.attention)
    assert bool(about(model)) == (not found.attention)


def test_names_from_files_become_neither_markup_nor_formulas(tmp_path):
    model, inputs = model_of({"kind": "none"}, ("smell",)), sample_of(("smell",))
    names = ("$\\frac$ <b>|*", "_hidden", "中")
    info = DatasetInfo("x", names, {"smell": ModalityInfo("series", (6,))})
    found = explain_sample(model, inputs, info, label=0)
    save(answer_picture(found), tmp_path / "answer.png")
    text = page("a # title", ["a <note>"], [Shown("x|y", "samples/1", found, ("a",), [])])
    assert r"a \# title" in text
    assert r"a \<note\>" in text
    assert r"| x\|y |" in text
    assert r"\$\\frac\$ \<b\>\|\*" in text
    assert "This sample has no a." in text


def test_what_counts_is_drawn_where_it_is():
    model, inputs = model_of(CCSSA, ("image", "touch")), sample_of(("image", "touch"))
    found = explain_sample(model, inputs, info_of(("image", "touch")), label=1)
    found.saliency["image"][:] = 0
    found.saliency["image"][2, 13] = 1
    figure = input_picture(found, "image")
    drawn_picture = np.asarray(figure.axes[1].images[0].get_array())
    colorful = np.ptp(drawn_picture, axis=2)
    assert np.unravel_index(colorful.argmax(), colorful.shape) == (2, 13)
    assert np.count_nonzero(colorful > 0.01) == 1

    found.occlusion["touch"][:] = 0
    found.occlusion["touch"][4] = -0.25
    bars = occlusion_picture(found, "touch").axes[1].patches
    assert [bar.get_height() for bar in bars] == [-25.0 if place == 4 else 0 for place in range(20)]
    assert attention_picture(found, ("touch", "image")).get_suptitle() == "touch reads image"
    lines = residual_picture(found).axes[0].lines
    assert [line.get_label() for line in lines] == ["image reads touch", "touch reads image"]
    assert lines[0].get_xdata().tolist() == [1, 2]


def test_spikes_are_drawn_where_they_are():
    found = explain_sample(model_of(CCSSA, ("image", "touch")), sample_of(("image", "touch")), info_of(), label=1)
    rng = np.random.default_rng(0)
    layers = [f"fusion.readers.a_reads_b.{number}.key" for number in range(40)]
    few = {"encoders.image.position": rng.random((3, 50)) < 0.4, "fusion.readers.x": np.zeros((3, 7), bool)}
    for rasters in (few, few | {layer: rng.random((3, 9)) < 0.5 for layer in layers}):
        axes = raster_picture(replace(found, rasters=rasters)).axes[0]
        for image, spikes in zip(axes.images, rasters.values(), strict=False):
            assert np.array_equal(np.asarray(image.get_array())[..., 3] > 0, spikes)  # elsewhere the paper shows
        assert [text.get_text() for text in axes.texts[:3:2]] == ["image.position", "readers.x"]
        assert len(axes.images) == 2
        assert ("2 of 42 layers" in axes.get_title(loc="left")) == (len(rasters) == 42)


def test_events_cover_the_paper_where_they_are():
    inputs = {"touch": torch.rand(1, 2, 8, 16)}
    encoders = {"touch": {"kind": "patch_splitting", "input_shape": (2, 8, 16), "depth": "shallow"}}
    info = info_of(("touch",), {"touch": (2, 8, 16)}, {"touch": "events"})
    found = explain_sample(model_of({"kind": "none"}, ("touch",), encoders), inputs, info)
    found.inputs["touch"][:] = 0
    found.inputs["touch"][1, 2, 3], found.inputs["touch"][0, 4, 5] = 4, 2  # on, and half as many off
    (title, figure), _ = input_panels(found, "touch")
    assert title == "touch; on orange, off blue, both pink"
    notes = [picture.note for picture, _ in drawn(found)]
    assert "Orange are on events" in notes[1]
    pixels = np.asarray(figure.axes[0].images[0].get_array())
    assert np.argwhere(pixels[..., 3]).tolist() == [[2, 3], [4, 5]]
    assert [to_hex(pixels[2, 3, :3]).upper(), to_hex(pixels[4, 5, :3]).upper()] == [ORANGE, BLUE]
    assert pixels[[2, 4], [3, 5], 3].tolist() == [1, 0.5]


def test_the_answer_is_built_from_chance_and_contributions():
    found = explain_sample(model_of(CCSSA), sample_of(), info_of(), label=1)
    bars = answer_picture(found).axes[1].patches
    assert [bar.get_x() + bar.get_width() for bar in bars[1:4]] == pytest.approx(
        (100 / 3 + 100 * np.cumsum(list(found.contribution.values()))).tolist()
    )
    assert bars[4].get_width() == pytest.approx(100 * found.probabilities.max())


def test_the_map_keeps_groups_together_and_needs_something_to_show():
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    values = (10 * np.eye(3)[labels] @ rng.normal(size=(3, 8)) + rng.normal(size=(30, 8))).astype(np.float32)
    first, second = embedded(values, seed=1), embedded(values, seed=1)
    assert np.array_equal(first, second)
    assert first.shape == (30, 2)
    placed = Features("x", True, first, labels, np.ones(30, bool))
    assert neighbors_agree(placed) == pytest.approx(0.9)  # of ten neighbors, nine can be of the same class
    assert embedded(values[:4], seed=0) is None
    assert embedded(np.ones((20, 8), np.float32), seed=0) is None


def test_neighbors_are_counted_without_oneself():
    # Eleven of each class, far apart: all ten nearest are of the same class. One of another class among them: not.
    values = np.concatenate([np.zeros((11, 2)), np.full((11, 2), 100.0)]).astype(np.float32)
    labels = np.repeat([0, 1], 11)
    right = np.ones(22, bool)
    assert neighbors_agree(Features("x", False, values, labels, right)) == 1
    labels[0] = 1
    assert neighbors_agree(Features("x", False, values, labels, right)) == pytest.approx(1 - (10 + 10) / 220)
    assert neighbors_agree(Features("x", False, values[:1], labels[:1], right[:1])) is None
