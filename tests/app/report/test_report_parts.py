"""Parts of the report that need no run: the verdict and the model diagram."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from scmrl.report.model_diagram import ModelOutline, model_diagram, outline_text, read_outline
from scmrl.report.unimodal_runs import UnimodalRun
from scmrl.report.verdict import verdict
from scmrl.results.run import EvaluationFile


def evaluation(accuracy: float, spread: float = 0.02, **without: float) -> EvaluationFile:
    def score(value: float) -> dict[str, float]:
        return {"value": value, "low": value - spread, "high": value + spread}

    names = tuple(without)
    subsets = [
        (names, (), accuracy),
        *((tuple(set(names) - {name}), (name,), value) for name, value in without.items()),
    ]
    rest = {"macro_f1": score(0.5), "calibration_error": score(0.1)}
    return EvaluationFile.model_validate(
        {
            "format_version": 1,
            "data": "d",
            "split": "test",
            "n": 100,
            "selection": "validation",
            "mark": "",
            "notes": [],
            "bootstrap": {"resamples": 1000, "seed": 0, "level": 0.95},
            "loss": 1.0,
            "accuracy": score(accuracy),
            **rest,
            "classes": [],
            "confusion": [],
            "subsets": [
                {"modalities": m, "without": w, "accuracy": score(a), **rest, "blank": 0} for m, w, a in subsets
            ],
            "rates": {},
        }
    )


BALANCED = [[40, 10], [10, 40]]


def unimodal(modality: str, accuracy: float) -> UnimodalRun:
    return UnimodalRun(modality, Path("run"), accuracy, None, ())


@pytest.mark.parametrize(
    ("scores", "siblings", "text"),
    [
        (
            None,
            [],
            "Accuracy is 80.00% on 100 test samples, compared with 50.00% for always predicting the most frequent "
            "class.",
        ),
        (
            evaluation(0.8, image=0.5, audio=0.7),
            [unimodal("image", 0.6), unimodal("audio", 0.7)],
            "Accuracy is 80.00% on 100 test samples (95% interval 78.00% to 82.00%), compared with 50.00% for always "
            "predicting the most frequent class and 70.00% for audio, the best single modality; the model depends "
            "most on image: without image accuracy falls by 30.0 points, without audio accuracy falls by 10.0 points.",
        ),
        (
            evaluation(0.8, 0.35),
            [],
            "Accuracy is 80.00% on 100 test samples (95% interval 45.00% to 115.00%), which is not clearly above "
            "50.00% for always predicting the most frequent class.",
        ),
        (
            None,
            [unimodal("audio", 0.9)],
            "Accuracy is 80.00% on 100 test samples, compared with 50.00% for always predicting the most frequent "
            "class; audio alone reaches 90.00%, which this run does not beat.",
        ),
        (
            evaluation(0.8, image=0.79, audio=0.81),
            [],
            "Accuracy is 80.00% on 100 test samples (95% interval 78.00% to 82.00%), compared with 50.00% for always "
            "predicting the most frequent class; the model depends on no single modality: without any one of them "
            "accuracy changes by at most 1.0 points.",
        ),
    ],
)
def test_the_verdict_is_one_sentence(scores: EvaluationFile | None, siblings: list[UnimodalRun], text: str):
    assert verdict(0.8, BALANCED, scores, split="test", unimodal=siblings) == text


def outline(*names: str, **changes: Any) -> ModelOutline:
    values: dict[str, Any] = {
        "encoders": dict.fromkeys(names, ("series", "3 × 200")),
        "channels": 32,
        "time_steps": 4,
        "neuron": "LIF",
        "method": "cross-modal attention (CCSSA)",
        "pairs": {(t, s): 1.5 for t in names for s in names if t != s},
        "readout": "add",
        "classes": 10,
    }
    return ModelOutline(**(values | changes))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_diagram_has_any_number_of_modalities(count: int):
    names = [f"modality{number}" for number in range(count)]
    drawing = ElementTree.fromstring(str(model_diagram(outline(*names))))
    texts = ["".join(each.itertext()) for each in drawing.iter("text")]
    assert [text for text in texts if text in names] == names
    heads = len(list(drawing.iter("polygon")))
    assert heads == (2 if count == 1 else 3 * count + count * (count - 1))
    _, _, width, height = map(float, drawing.attrib["viewBox"].split())
    for box in drawing.iter("rect"):
        x, y, w, h = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height


def test_names_in_the_diagram_stay_text():
    drawing = str(model_diagram(outline("<b>&\x1b", "y" * 60)))
    assert "<b>" not in drawing
    assert "\x1b" not in drawing
    texts = ["".join(each.itertext()) for each in ElementTree.fromstring(drawing).iter("text")]
    assert r"<b>&\x1b" in texts
    assert "y" * 60 + "y" * 18 + "…" in texts  # the title, then the shortened name


def test_scales_that_differ_label_their_arrows():
    model = outline("a", "b", pairs={("a", "b"): 0.5, ("b", "a"): 1.25})
    texts = ["".join(each.itertext()) for each in ElementTree.fromstring(str(model_diagram(model))).iter("text")]
    assert {"0.5", "1.25"} <= set(texts)


def test_the_outline_is_read_from_the_spec_alone(tmp_path: Path):
    content = {
        "model": {
            "channels": 16,
            "time_steps": 3,
            "neuron": {"kind": "plif"},
            "fusion": {"kind": "of-a-plugin", "topology": "ring"},
            "readout": {},
            "encoders": {
                "a": {"kind": "vector"},
                "b": {"kind": "series"},
                "c": {"kind": "strange"},
            },
            "input_shapes": {"a": [7], "b": [3, 200]},
            "num_classes": 4,
        }
    }
    (tmp_path / "spec.json").write_text(json.dumps(content))
    model = read_outline(tmp_path / "spec.json", {})
    assert list(model.pairs) == [("a", "b"), ("b", "c"), ("c", "a")]
    assert outline_text(model).startswith(
        "a (7 channels) by a vector encoder; b (3 × 200) by a series encoder; c by a strange encoder. "
    )
    assert "Fusion: of-a-plugin: a reads b, b reads c, c reads a. Readout into 4 classes." in outline_text(model)
    for damaged in ("{", "[]", '{"model": 3}', '{"model": {"encoders": {"a": {}}}}'):
        (tmp_path / "spec.json").write_text(damaged)
        with pytest.raises(ValueError, match=r".+"):
            read_outline(tmp_path / "spec.json", {})
