"""Specs as files: lossless round trips, and every fault has its line, field, value and what is allowed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from snn_fusion import (
    PRESETS,
    BackboneSpec,
    CCSSASpec,
    LIFSpec,
    ModelSpec,
    PatchSplittingSpec,
    Spec,
    SpecFileError,
    TokensSpec,
    dump_spec,
    json_schema,
    load_spec,
)

MODEL = """\
# A model of two modalities.
input_shapes:
  audio: [1, 16, 16]
  visual: [3, 16, 16]
encoders:
  audio: {kind: patch_splitting, depth: shallow}
num_classes: 6
"""


def faults_of(path: Path, text: str) -> list[str]:
    """The lines of the error, without the file's name."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecFileError) as error:
        load_spec(path)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{path}:") for line in lines)
    return [line.removeprefix(f"{path}:") for line in lines]


def odd_spec() -> ModelSpec:
    return ModelSpec(
        input_shapes={"Yes": (1, 16, 32), "on": (32, 7)},
        encoders={"Yes": PatchSplittingSpec(depth="shallow"), "on": TokensSpec()},
        num_classes=3,
        fusion=CCSSASpec(alpha=1e-7, topology=(("on", "Yes"),), num_heads=8),
        neuron=LIFSpec(v_reset=None),
        alignment=None,
    )


@pytest.mark.parametrize("ending", ["yaml", "yml", "json"])
@pytest.mark.parametrize("spec", [odd_spec(), *PRESETS.values()], ids=["odd", *PRESETS])
def test_written_files_are_read_back(spec: ModelSpec, ending: str, tmp_path: Path):
    path = tmp_path / f"model.{ending}"
    dump_spec(spec, path)
    assert load_spec(path) == spec


def test_written_files_state_every_default(tmp_path: Path):
    dump_spec(BackboneSpec(), tmp_path / "backbone.json")
    assert json.loads((tmp_path / "backbone.json").read_text()) == BackboneSpec().model_dump(mode="json")


def test_ambiguous_text_is_quoted(tmp_path: Path):
    class Words(Spec):
        words: tuple[str, ...] = ("1e-7", "0x1f", "null", "no", "1:20", "2001-01-01", "", "~", "ä: b", "-")

    path = tmp_path / "words.yaml"
    dump_spec(Words(), path)
    assert len(path.read_text().splitlines()) == 1
    assert load_spec(path, Words) == Words()


def test_any_model_can_be_read(tmp_path: Path):
    class Run(BaseModel):
        model: BackboneSpec
        epochs: int

    path = tmp_path / "run.yaml"
    path.write_text("model: {channels: 32}\nepochs: 3")
    assert load_spec(path, Run) == Run(model=BackboneSpec(channels=32), epochs=3)
    path.write_text("model: {chanels: 32}\nepochs: 3")
    with pytest.raises(SpecFileError, match=r"1:9: model.chanels: .*; did you mean channels\?"):
        load_spec(path, Run)


def test_plain_scalars_are_those_of_yaml_1_2(tmp_path: Path):
    class Values(BaseModel):
        values: list[object]

    path = tmp_path / "values.yaml"
    path.write_text(
        "values: [yes, on, 12:30, 2001-01-01, 1e-3, 010, 1_000, .5, -3, TRUE, ~, Null, '1', 0x1f, 1., !!str 5]"
    )
    words = ["yes", "on", "12:30", "2001-01-01", 1e-3, 10, "1_000", 0.5, -3, True, None, None, "1", "0x1f", 1.0, "5"]
    values = load_spec(path, Values).values
    assert values == words
    assert [type(value) for value in values] == [type(word) for word in words]


def test_json_is_read_as_json(tmp_path: Path):
    class Values(BaseModel):
        values: dict[str, object]

    text = '{\n\t"values": {"a":\t"\\ud83d\\ude00\u2028\\/", "b": [1E5, -0.5e-3, true, null, []]}\n}\n'
    (tmp_path / "values.json").write_text(text, encoding="utf-8")
    assert load_spec(tmp_path / "values.json", Values).model_dump() == json.loads(text)


def test_every_fault_is_reported_in_the_order_of_the_file(tmp_path: Path):
    faults = faults_of(
        tmp_path / "model.yaml",
        """\
input_shapes:
  audio: [1, many, 16]
encoders:
  audio:
    kind: patch_splitting
    dept: full
  visual: {kind: patch_spliting}
  smell: 3
num_classes: 1
fusion:
  scale: -1
  attention: spatal
  topology: [[audio]]
alignment: none
readout: 5
nuron: {}
""",
    )
    assert faults == [
        '2:14: input_shapes.audio.1: "many", but it must be a whole number',
        "6:5: encoders.audio.dept: there is no such field; did you mean depth? known: blocks, kind, depth",
        "7:18: encoders.visual.kind: unknown encoder kind 'patch_spliting'; did you mean patch_splitting? known kinds: "
        "auto, patch_splitting, series, vector, tokens",
        "8:10: encoders.smell: 3, but it must be fields with a kind (auto, patch_splitting, series, vector, tokens)",
        "9:14: num_classes: 1, but it must be a whole number ≥ 2",
        "11:10: fusion.scale: -1, but it must be a number > 0 or auto",
        '12:14: fusion.attention: "spatal", but it must be one of spatial, temporal, spatiotemporal; did you mean '
        "spatial?",
        "13:13: fusion.topology: this is a list, but it must be text or a list, each item a list of 2, each text",
        '14:12: alignment: "none", but it must be fields with a kind (class_contrastive, info_nce) or null; write null '
        "for none",
        "15:10: readout: 5, but it must be fields (combine, mlp_expansion)",
        "16:1: nuron: there is no such field; did you mean neuron? known: channels, time_steps, neuron, fusion, "
        "alignment, readout, label_smoothing, modality_dropout, init, input_shapes, encoders, num_classes, fit_inputs",
    ]


def test_a_missing_field_is_reported_at_its_parent(tmp_path: Path):
    faults = faults_of(tmp_path / "model.yaml", "channels: 64\nencoders:\n  a:\n    kind: patch_splitting\n")
    assert faults == [
        "1:1: input_shapes: is missing; must be fields of any name",
        "1:1: num_classes: is missing; must be a whole number ≥ 2",
    ]


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("fusion: {num_heads: 5}", "8:21: fusion.num_heads: channels (64) must be divisible by fusion.num_heads (5)"),
        ("channels: 24", "8:11: channels: channels (24) must be divisible by fusion.num_heads (16)"),
        ("fusion: {kind: none}", "8:16: fusion.kind: alignment needs residuals, but fusion.kind none has none"),
        ("neuron: {kind: [lif]}", "8:16: neuron.kind: a neuron needs fields with a kind; known kinds: lif"),
        ("fusion: {topology: 'star:smell'}", "the hub of 'star:smell' must be one of the modalities audio, visual"),
    ],
)
def test_inconsistent_fields_are_reported(more: str, fault: str, tmp_path: Path):
    (actual,) = faults_of(tmp_path / "model.yaml", MODEL + more)
    assert fault in actual


def test_faults_in_json_have_positions(tmp_path: Path):
    text = '{\n\t"num_classes": 1,\n\t"num_classes": 2, "input_shapes": {"a": [1, "\\ud83d\\ude00", 16]}}'
    assert faults_of(tmp_path / "model.json", text) == [
        "3:2: num_classes: is a duplicate, first in line 2",
        '3:46: input_shapes.a.1: "😀", but it must be a whole number',
    ]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.yaml", "", "1:1: the file is empty"),
        ("a.yaml", "# only a comment\n", "1:1: the file is empty"),
        ("a.yaml", "- 1\n", "1:1: [1], but it must be fields (channels, "),
        ("a.yaml", "a: 1\n\tb: 2\n", "2:1: this is not YAML: "),
        ("a.yaml", "a: [1, 2\nb: 3\n", "2:2: this is not YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("a.yaml", "a: 1\n---\nb: 2\n", "2:1: this is not YAML: expected a single document"),
        ("a.yaml", "a: *b\n", "1:4: this is not YAML: found undefined alias 'b'"),
        ("a.yaml", "a: 1\nb: \x07\n", "2:4: this is not text: it has the character 0x7"),
        ("a.json", '{"a": 1,\n "b": ?}', "2:7: this is not JSON: Expecting value"),
        ("a.json", "", "1:1: this is not JSON: Expecting value"),
    ],
)
def test_invalid_syntax_is_reported_with_its_line(name: str, text: str, fault: str, tmp_path: Path):
    (actual,) = faults_of(tmp_path / name, text)
    assert actual.startswith(fault)


def test_invalid_utf_8_is_reported_with_its_line(tmp_path: Path):
    (tmp_path / "a.yaml").write_bytes(b"a: 1\nbc: \xff\n")
    with pytest.raises(SpecFileError, match=r"a.yaml:2:5: this is not UTF-8: it has the byte 0xff"):
        load_spec(tmp_path / "a.yaml")


def test_a_byte_order_mark_is_accepted(tmp_path: Path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + MODEL.encode())
    assert load_spec(tmp_path / "a.yaml").num_classes == 6


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "neuron: !!python/object/apply:os.mkdir [made]",
            "8:9: neuron: the tag !!python/object/apply:os.mkdir is not allowed: a file holds plain data only",
        ),
        ("neuron: !mine {tau: 3}", "8:9: neuron: the tag !mine is not allowed: a file holds plain data only"),
        ("channels: !!int abc", "8:11: channels: 'abc' does not match its tag !!int"),
        ("num_classes: 7", "8:1: num_classes: is a duplicate, first in line 7"),
        ("neuron: {tau: 3, tau: 3}", "8:18: neuron.tau: is a duplicate, first in line 8"),
        ("neuron: &n {tau: 3, kind: *n}", "8:9: neuron.kind: is an alias of its own parent, line 8"),
        ("? [a, b]\n: 3", "8:3: a field's name must be one word"),
        ("<<: {channels: 32}", "8:1: <<: there is no such field; known: channels"),
    ],
)
def test_anything_but_plain_data_is_refused(line: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (actual,) = faults_of(tmp_path / "model.yaml", MODEL + line + "\n")
    assert actual.startswith(fault)
    assert not (tmp_path / "made").exists()


def test_an_alias_repeats_its_anchor(tmp_path: Path):
    path = tmp_path / "model.yaml"
    path.write_text("input_shapes:\n  a: &one [1, 16, 16]\n  b: *one\nnum_classes: 2\n")
    assert load_spec(path).input_shapes["a"] == load_spec(path).input_shapes["b"]
    assert faults_of(path, path.read_text().replace("1, 16", "1, many")) == [
        f'2:15: input_shapes.{name}.1: "many", but it must be a whole number' for name in ("a", "b")
    ]


def test_a_shape_that_its_encoder_refuses_is_reported_at_the_shape(tmp_path: Path):
    assert faults_of(tmp_path / "model.yaml", MODEL.replace("3, 16", "3, 18")) == [
        "4:11: input_shapes.visual: shallow patch splitting needs height and width that are multiples of 4, but "
        "input_shape is 3 x 18 x 16: resize the input"
    ]


def test_aliases_of_aliases_do_not_blow_up(tmp_path: Path):
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    faults = faults_of(tmp_path / "model.yaml", "\n".join(["a0: &a0 [x]", *levels, "num_classes: *a29"]))
    assert faults[-1].endswith("num_classes: this is a list, but it must be a whole number ≥ 2")
    assert max(map(len, faults)) < 300


def test_another_suffix_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"must end in .yaml, .yml or .json, but this is 'model.toml'"):
        load_spec("model.toml")
    with pytest.raises(ValueError, match=r"must end in .yaml, .yml or .json"):
        dump_spec(BackboneSpec(), tmp_path / "model")
    with pytest.raises(FileNotFoundError):
        load_spec(tmp_path / "model.yaml")


def test_the_schema_lists_every_kind_and_requires_all_but_the_default():
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["title"] == "ModelSpec"
    seams = {
        "neuron": schema["properties"]["neuron"],
        "fusion": schema["properties"]["fusion"],
        "encoders": schema["properties"]["encoders"]["additionalProperties"],
        "alignment": schema["properties"]["alignment"]["anyOf"][0],
    }
    defaults = {}
    for seam, choice in seams.items():
        assert choice["discriminator"] == {"propertyName": "kind"}
        assert all(option["additionalProperties"] is False for option in choice["oneOf"])
        optional = [option for option in choice["oneOf"] if "kind" not in option.get("required", [])]
        defaults[seam] = [option["properties"]["kind"]["const"] for option in optional]
    assert defaults == {
        "neuron": ["lif"],
        "fusion": ["ccssa"],
        "encoders": ["auto"],
        "alignment": ["class_contrastive"],
    }
    assert {"alif", "plif"} <= {option["properties"]["kind"]["const"] for option in seams["neuron"]["oneOf"]}


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "snn_fusion", *arguments],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        check=False,
    )


def test_the_command_checks_and_shows(tmp_path: Path):
    (tmp_path / "good.yaml").write_text(MODEL)
    (tmp_path / "bad.yaml").write_text(MODEL + "chanels: 3\n")
    good, bad = command("check", "good.yaml", cwd=tmp_path), command("check", "bad.yaml", cwd=tmp_path)
    assert (good.returncode, good.stdout) == (0, "good.yaml is a model of audio, visual\n")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith("bad.yaml:8:1: chanels: there is no such field; did you mean channels?")
    printed = command("show", "scmrl-cremad-published", cwd=tmp_path)
    (tmp_path / "printed.yaml").write_text(printed.stdout, encoding="utf-8")
    assert load_spec(tmp_path / "printed.yaml") == PRESETS["scmrl-cremad-published"]
    assert json.loads(command("schema", cwd=tmp_path).stdout) == json_schema()


def test_files_need_no_pytorch_and_specs_no_yaml(tmp_path: Path):
    (tmp_path / "model.yaml").write_text(MODEL)
    code = """
import sys
from snn_fusion import dump_spec, json_schema, load_spec, preset
json_schema()
assert "yaml" not in sys.modules
dump_spec(load_spec("model.yaml"), "again.yaml")
assert "yaml" in sys.modules
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
