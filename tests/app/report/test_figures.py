"""The figures of a run: PNG files that show their data."""

import math
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from present import present
from scmrl.energy.figure import energy_figure
from scmrl.plots.files import save_png
from scmrl.plots.labels import format_percent, layer_name
from scmrl.plots.run_figures import (
    confusion_figure,
    curves_figure,
    rates_figure,
)
from scmrl.study.ablation.plots import accuracy_plot
from scmrl.study.sensitivity.plots import heat_map


def epochs(count: int, *, alignment: bool = True) -> list[dict[str, float]]:
    rows = [
        {
            "epoch": epoch,
            "train_loss": 2 / epoch,
            "val_loss": 2.5 / epoch,
            "train_accuracy": 1 - 0.5 / epoch,
            "val_accuracy": 0.75 - 0.5 / epoch,
            "learning_rate": 1e-3,
        }
        for epoch in range(1, count + 1)
    ]
    return [row | {"alignment_loss": 3.0 + row["train_loss"]} if alignment else row for row in rows]


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def test_each_figure_is_written_and_its_path_returned(tmp_path: Path):
    folder = tmp_path / "new" / "figures"
    rates = {"audio.query": 0.0, "audio.key": 0.05}
    paths = [
        save_png(curves_figure(epochs(3), best_epoch=2), folder / "curves.png"),
        save_png(confusion_figure([[3, 1], [0, 4]], ["cat", "dog"], title="Validation"), folder / "confusion.png"),
        save_png(rates_figure(rates, rates), folder / "rates.png"),
    ]
    assert [path.name for path in paths] == ["curves.png", "confusion.png", "rates.png"]
    assert png_size(paths[0]) == (1500, 600)
    for path in paths:
        assert all(250 <= edge <= 3000 for edge in png_size(path))


def test_curves_show_loss_and_accuracy_in_per_cent():
    loss, accuracy = curves_figure(epochs(4, alignment=False), best_epoch=None).axes
    assert [np.asarray(line.get_ydata()).tolist() for line in loss.lines] == [
        [2 / epoch for epoch in (1, 2, 3, 4)],
        [2.5 / epoch for epoch in (1, 2, 3, 4)],
    ]
    assert [np.asarray(line.get_ydata())[1] for line in accuracy.lines] == [75.0, 50.0]
    assert np.asarray(loss.lines[0].get_xdata()).tolist() == [1, 2, 3, 4]


def test_alignment_has_its_own_axis():
    figure = curves_figure(epochs(4), best_epoch=None)
    assert len(figure.axes) == 3
    assert np.asarray(figure.axes[2].lines[0].get_ydata()).tolist() == [3.0 + 2 / epoch for epoch in (1, 2, 3, 4)]


def test_selected_epoch_is_marked_in_both_panels_and_named_once():
    figure = curves_figure(epochs(9), best_epoch=7)
    for axes in figure.axes[:2]:
        assert np.asarray(axes.lines[-1].get_xdata()).tolist() == [7, 7]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["training", "validation", "alignment loss (right axis)", "selected epoch (7)"]


def test_single_epoch_is_a_visible_point():
    figure = curves_figure(epochs(1), best_epoch=1)
    figure.draw_without_rendering()
    assert figure.axes[0].lines[0].get_marker() == "o"
    ticks = figure.axes[0].get_xticks()
    assert all(float(tick).is_integer() for tick in ticks)


def test_epoch_without_validation_leaves_a_gap():
    history = epochs(3)
    del history[1]["val_loss"]
    values = np.asarray(curves_figure(history, best_epoch=None).axes[0].lines[1].get_ydata())
    assert [math.isnan(value) for value in values] == [False, True, False]


def test_an_empty_history_is_an_error():
    with pytest.raises(ValueError, match="history is empty"):
        curves_figure([], best_epoch=None)


@pytest.mark.parametrize(("size", "numbers"), [(1, 1), (2, 4), (25, 625), (26, 0), (50, 0)])
def test_confusion_shows_counts_while_they_are_legible(size: int, numbers: int):
    matrix = [[column + 10 * (row == column) for column in range(size)] for row in range(size)]
    axes = confusion_figure(matrix, [f"class {index}" for index in range(size)], title="Validation").axes[0]
    assert len(axes.texts) == numbers
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"class {index}" for index in range(size)]
    if size == 2:
        assert [text.get_text() for text in axes.texts] == ["10", "1", "0", "11"]


def test_confusion_colors_are_shares_of_the_true_class():
    axes = confusion_figure([[1, 3], [0, 0]], ["cat", "dog"], title="Validation").axes[0]
    assert present(axes.images[0].get_array()).tolist() == [[25, 75], [0, 0]]


@pytest.mark.parametrize(("matrix", "classes"), [([[1]], ["cat", "dog"]), ([[1], [2]], ["cat", "dog"]), ([], [])])
def test_the_confusion_matrix_must_match_the_classes(matrix: list[list[int]], classes: list[str]):
    with pytest.raises(ValueError, match="row and a column for each"):
        confusion_figure(matrix, classes, title="Validation")


@pytest.mark.parametrize("size", [51, 1000, 1203])
def test_confusion_of_many_classes_stays_small(tmp_path: Path, size: int):
    matrix = np.zeros((size, size), dtype=int)
    matrix[np.arange(size), np.arange(size)] = 3
    matrix[7, size - 1] = 9
    figure = confusion_figure(matrix.tolist(), [f"class {index}" for index in range(size)], title="test")
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert 10 <= len(names) <= 50
    assert names[1] == f"class {int(axes.get_yticks()[1])}"
    assert f"one of {int(axes.get_yticks()[1])} class names is shown" in axes.get_title()
    shares = axes.images[0].get_array()
    assert shares is not None
    assert len(shares) <= 500
    block = -(-size // 500)
    assert shares[7 // block].max() == pytest.approx(75 if block == 1 else 100 * 9 / (9 + 3 * block))
    path = save_png(confusion_figure(matrix.tolist(), [""] * size, title="test"), tmp_path / "confusion.png")
    assert all(edge <= 2500 for edge in png_size(path))
    assert path.stat().st_size < 1_000_000


def test_names_of_classes_are_drawn_on_one_line_without_control_characters():
    axes = confusion_figure([[1, 0], [0, 1]], ["a\nb\x1b[2J", "x" * 99], title="test").axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [r"a b\x1b[2J", "x" * 29 + "…"]


def test_rates_are_bars_in_per_cent_on_an_axis_that_begins_at_zero():
    figure = rates_figure({"query": 0.0, "key": 0.004}, {"query": 0.02, "key": 0.5, "value": 0.00005})
    (axes,) = figure.axes
    assert [[bar.get_width() for bar in bars] for bars in axes.containers] == [[0, 0.4], [2, 50, 0.005]]
    labels = [text.get_text() for text in axes.texts]
    assert labels == ["0 %, silent", "0.40 %", "2.0 %", "50 %", "< 0.01 %, silent"]
    assert axes.get_xscale() == "linear"
    assert axes.get_xlim() == (0, pytest.approx(59))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["query", "key", "value"]
    assert "Firing rates" in figure.get_suptitle()


def test_layers_have_readable_names():
    names = {
        "fusion.readers.audio_reads_visual.temporal.spike": "audio reads visual: temporal attention, coincidences",
        "readers.audio_reads_visual.spatial.query": "audio reads visual: spatial attention, query",
        "fusion.readers.a_reads_b.projection": "a reads b: projection",
        "encoders.image.stages.0": "image encoder: stage 1",
        "encoders.left_eye.position": "left_eye encoder: position",
        "readout.mlps.image.expand": "readout: image, expand",
        "fusion.gate": "gate",
        "fusion": "fusion",
        "odd": "odd",
    }
    assert {name: layer_name(name) for name in names} == names


def test_of_many_layers_the_lowest_and_the_highest_rates_are_drawn(tmp_path: Path):
    rates = {f"readers.a_reads_{index}.query": index / 500 for index in range(300)}
    figure = rates_figure(rates, rates)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == 40
    assert names[0] == "a reads 0: query"
    assert names[-1] == "a reads 299: query"
    assert "40 of 300 layers" in figure.get_suptitle()
    assert all(edge <= 4000 for edge in png_size(save_png(rates_figure(rates, rates), tmp_path / "rates.png")))


def test_of_many_layers_the_most_expensive_are_drawn():
    cost = {"mac": 1.0, "ac": 0.0, "energy_j": 1e-9}
    layers = [
        {"layer": f"encoders.a.stages.{index}", "energy_j": 1e-9 * index, "paper": cost | {"energy_j": 1e-9}}
        for index in range(200)
    ]
    figure = energy_figure({"layers": layers, "totals": {"paper": cost, "strict": cost}})
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == 40
    assert names[-1] == "a encoder: stage 200"
    assert names[0] == "a encoder: stage 161"


def test_of_many_variants_the_best_and_the_worst_are_drawn():
    figure = accuracy_plot({f"variant {index}": [index / 300] for index in range(300)}, "accuracy, %")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == 60
    assert (names[0], names[-1]) == ("variant 0", "variant 299")
    assert figure.get_size_inches()[1] < 25


def test_a_large_heat_map_has_a_bounded_size():
    values = {(str(row), str(column)): float(row * column) for row in range(80) for column in range(80)}
    every = [str(value) for value in range(80)]
    figure = heat_map(values, ("a", every), ("b", every), "accuracy, %")
    assert max(figure.get_size_inches()) <= 24
    assert not figure.axes[0].texts


def test_rates_of_no_layer_are_an_error():
    with pytest.raises(ValueError, match="no layer"):
        rates_figure({}, {})


@pytest.mark.parametrize(("value", "text"), [(0.0, "0 %"), (1e-9, "< 0.01 %"), (0.016, "0.02 %"), (99.6, "100 %")])
def test_percent_never_rounds_activity_to_zero(value: float, text: str):
    assert format_percent(value) == text


def test_drawing_needs_no_pyplot():
    code = "import sys, scmrl.plots.run_figures; assert 'matplotlib.pyplot' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
