"""Parts of the report that need no run: the verdict, and the picture of a model."""

import json
from xml.etree import ElementTree

import pytest

from scmrl.report.alone import AloneRun
from scmrl.report.model_picture import ModelShape, describe, model_picture, read_shape
from scmrl.report.stored import Evaluation
from scmrl.report.verdict import verdict


def evaluation(accuracy: float, spread: float = 0.02, **without: float) -> Evaluation:
    def score(value: float) -> dict[str, float]:
        return {"value": value, "low": value - spread, "high": value + spread}

    every = tuple(without)
    subsets = [
        (every, (), accuracy),
        *((tuple(set(every) - {name}), (name,), value) for name, value in without.items()),
    ]
    rest = {"macro_f1": score(0.5), "calibration_error": score(0.1)}
    return Evaluation.model_validate(
        {
            "format_version": 1,
            "data": "d",
            "split": "test",
            "n": 100,
            "mark": "",
            "notes": [],
            "bootstrap": {"resamples": 1000, "level": 0.95},
            "loss": 1.0,
            "accuracy": score(accuracy),
            **rest,
            "classes": [],
            "confusion": [],
            "subsets": [{"modalities": m, "without": w, "accuracy": score(a), **rest} for m, w, a in subsets],
            "rates": {},
        }
    )


BALANCED = [[40, 10], [10, 40]]


def alone(modality: str, accuracy: float) -> AloneRun:
    return AloneRun(modality, None, accuracy, None, ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "siblings", "text"),
    [
        (
            None,
            [],
            "80.00% of 100 test samples are right, against 50.00% for always answering the most frequent class.",
        ),
        (
            evaluation(0.8, image=0.5, audio=0.7),
            [alone("image", 0.6), alone("audio", 0.7)],
            "80.00% of 100 test samples are right (95% interval 78.00% to 82.00%), against 50.00% for always answering "
            "the most frequent class and 70.00% for audio, the best modality trained alone; the model depends most on "
            "image: without image accuracy falls by 30.0 points, without audio accuracy falls by 10.0 points.",
        ),
        (
            evaluation(0.8, 0.35),
            [],
            "80.00% of 100 test samples are right (95% interval 45.00% to 115.00%), which is not clearly more than "
            "50.00% for always answering the most frequent class.",
        ),
        (
            None,
            [alone("audio", 0.9)],
            "80.00% of 100 test samples are right, against 50.00% for always answering the most frequent class; audio "
            "trained alone reaches 90.00%, which this does not beat.",
        ),
        (
            evaluation(0.8, image=0.79, audio=0.81),
            [],
            "80.00% of 100 test samples are right (95% interval 78.00% to 82.00%), against 50.00% for always answering "
            "the most frequent class; the model depends on no single modality: without any one of them accuracy "
            "changes by at most 1.0 points.",
        ),
    ],
)
def test_a_run_in_one_sentence(found, siblings, text):
    assert verdict(0.8, BALANCED, found, split="test", alone=siblings) == text


def shape(*names: str, **changes: object) -> ModelShape:
    values = {
        "encoders": dict.fromkeys(names, ("series", "3 × 200")),
        "channels": 32,
        "time_steps": 4,
        "neuron": "LIF",
        "method": "cross-modal attention (CCSSA)",
        "pairs": {(t, s): 1.5 for t in names for s in names if t != s},
        "readout": "add",
        "classes": 10,
    }
    return ModelShape(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_model_of_any_number_of_modalities_is_drawn(count):
    names = [f"sense{number}" for number in range(count)]
    drawing = ElementTree.fromstring(str(model_picture(shape(*names))))
    texts = ["".join(each.itertext()) for each in drawing.iter("text")]
    assert [text for text in texts if text in names] == names
    heads = len(list(drawing.iter("polygon")))
    assert heads == (2 if count == 1 else 3 * count + count * (count - 1))
    _, _, width, height = map(float, drawing.attrib["viewBox"].split())
    for box in drawing.iter("rect"):
        x, y, w, h = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height


def test_names_in_the_picture_stay_text():
    drawing = str(model_picture(shape("<b>&\x1b", "y" * 60)))
    assert "<b>" not in drawing
    assert "\x1b" not in drawing
    texts = ["".join(each.itertext()) for each in ElementTree.fromstring(drawing).iter("text")]
    assert r"<b>&\x1b" in texts
    assert "y" * 60 + "y" * 18 + "…" in texts  # its title, and what fits


def test_scales_that_differ_are_written_on_their_lines():
    model = shape("a", "b", pairs={("a", "b"): 0.5, ("b", "a"): 1.25})
    texts = ["".join(each.itertext()) for each in ElementTree.fromstring(str(model_picture(model))).iter("text")]
    assert {"0.5", "1.25"} <= set(texts)


def test_a_spec_is_read_without_the_model(tmp_path):
    content = {
        "model": {
            "channels": 16,
            "time_steps": 3,
            "neuron": {"kind": "plif"},
            "fusion": {"kind": "of-a-plugin", "topology": "ring"},
            "readout": {},
            "encoders": {
                "a": {"kind": "vector", "in_channels": 7},
                "b": {"kind": "series", "input_shape": [3, 200]},
                "c": {"kind": "strange"},
            },
            "num_classes": 4,
        }
    }
    (tmp_path / "spec.json").write_text(json.dumps(content))
    found = read_shape(tmp_path / "spec.json", {})
    assert list(found.pairs) == [("a", "b"), ("b", "c"), ("c", "a")]
    assert describe(found).startswith(
        "a (7 channels) by a vector encoder; b (3 × 200) by a series encoder; c by a strange encoder. "
    )
    assert "Fusion: of-a-plugin: a reads b, b reads c, c reads a. Readout into 4 classes." in describe(found)
    for damaged in ("{", "[]", '{"model": 3}', '{"model": {"encoders": {"a": {}}}}'):
        (tmp_path / "spec.json").write_text(damaged)
        with pytest.raises(ValueError, match=r".+"):
            read_shape(tmp_path / "spec.json", {})
