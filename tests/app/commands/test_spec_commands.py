"""`scmrl spec` and configuration files: how they merge, and the messages about errors in them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from present import present
from scmrl import cli
from scmrl.commands.spec import read_experiment
from scmrl.config.experiment import Experiment
from scmrl.config.overlay import OptionError, load
from scmrl.config.recipes import RECIPES, recipe
from snn_fusion import load_spec


def scmrl(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["scmrl", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert isinstance(end.value.code, int)
    return end.value.code


def read(tokens: tuple[str, ...]) -> Experiment:
    """The experiment of a command line."""
    return read_experiment(tokens, Experiment)


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(*tokens: str) -> list[str]:
    """Faults of the arguments of `scmrl train`."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        read(tokens)
    return str(caught.value).splitlines()


def test_each_layer_overrides_the_one_before(tmp_path: Path):
    first = write(tmp_path, "seed: 2\ntrain: {epochs: 3, batch_size: 8, learning_rate: 1e-3}\n", "a.yaml")
    second = write(tmp_path, "train: {epochs: 4, batch_size: 16}\n", "b.yml")
    third = write(tmp_path, '{"train": {"batch_size": 64}}', "c.json")
    result = read(
        ("scmrl-urbansound8k-av", "--config", str(first), str(second), "--train.epochs", "5", f"--config={third}")
    )
    assert (result.train.epochs, result.train.batch_size, result.train.learning_rate) == (5, 64, 1e-3)  # option, files
    assert (result.seed, result.train.warmup_epochs, result.data.model_dump()["kind"]) == (2, 5.0, "urbansound8k-av")
    assert result.train.weight_decay == Experiment().train.weight_decay


def test_a_table_in_a_file_replaces_and_an_option_adds(tmp_path: Path):
    encoders = "model: {encoders: {visual: {kind: vector}}}\n"
    path = write(tmp_path, encoders)
    assert list(recipe("scmrl-cremad").model.encoders) == ["audio"]
    replaced = read(("scmrl-cremad", "--config", str(path)))
    assert list(replaced.model.encoders) == ["visual"]
    added = read(("scmrl-cremad", "--model.encoders.visual.kind", "vector"))
    assert sorted(added.model.encoders) == ["audio", "visual"]
    changed = read(("--config", str(path), "--model.encoders.visual.tokens", "7"))
    assert present(changed.model.encoders["visual"]).model_dump()["tokens"] == 7


def test_a_kind_in_a_file_resets_the_choice_and_null_removes_an_entry(tmp_path: Path):
    path = write(tmp_path, "model:\n  fusion: {kind: none}\n  alignment: null\n")
    result = read(("scmrl-cremad", "--config", str(path)))
    assert result.model.fusion.model_dump() == {"kind": "none"}
    assert result.model.alignment is None
    again = read(("--config", str(path), "--model.fusion.kind", "ccssa", "--model.alignment.weight", "0.5"))
    assert again.model.alignment is not None
    assert again.model.alignment.weight == 0.5


@pytest.mark.parametrize("name", RECIPES)
def test_the_output_of_show_is_an_equivalent_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert scmrl(monkeypatch, "spec", "show", name, "--seed", "9") == 0
    path = write(tmp_path, capsys.readouterr().out)
    assert read(("--config", str(path))) == recipe(name).model_copy(update={"seed": 9})
    assert load_spec(path, Experiment) == recipe(name).model_copy(update={"seed": 9})


def test_check_accepts_valid_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    first = write(tmp_path, "train: {epochs: 3}\n", "a.yaml")
    second = write(tmp_path, "\ufeffdata: {val_fraction: 0.3}\n", "b.yaml")
    assert scmrl(monkeypatch, "spec", "check", str(first), str(second), "--recipe", "scmrl-cremad") == 0
    assert capsys.readouterr().out == f"{first}: valid\n{second}: valid\n"


def test_check_reports_the_faults_of_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    first = write(tmp_path, "train: {epochs: 0}\n", "a.yaml")
    second = write(tmp_path, "data:\n  kind: manifest\n", "b.yaml")
    third = write(tmp_path, "seed: 1\n", "c.yaml")
    assert scmrl(monkeypatch, "spec", "check", *map(str, (first, second, third))) == 2
    message = capsys.readouterr()
    assert message.out == f"{third}: valid\n"
    assert message.err.splitlines() == [
        f"scmrl: {first}:1:17: train.epochs = 0: must be a whole number ≥ 1 or auto",
        f"scmrl: {second}: --data.root is required when data.kind is manifest ({second}:2:9)",
    ]


def test_a_model_spec_is_referred_to_its_checker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    model = write(tmp_path, "input_shapes: {audio: [1, 16, 16]}\nnum_classes: 6\nchannels: 16\n", "m.yaml")
    assert scmrl(monkeypatch, "spec", "check", str(model)) == 2
    assert capsys.readouterr().err == (
        f"scmrl: {model}: this is a model spec, not an experiment; check it with `python -m snn_fusion check {model}`\n"
    )
    half = write(tmp_path, "num_classes: 6\n", "half.yaml")
    assert scmrl(monkeypatch, "spec", "check", str(half)) == 2
    assert f"{half}:1:14: num_classes: no such option" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["show", "three-modalities"], ["check", "run.yaml"], ["schema"], ["show", "--help"]]
)
def test_no_spec_command_needs_pytorch(command: list[str], tmp_path: Path):
    write(tmp_path, "model: {encoders: {touch: {kind: series}}}\n")
    code = (
        "import sys; sys.argv = ['scmrl', 'spec', *sys.argv[1:]]\n"
        "from scmrl.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_schema_accepts_partial_files(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert scmrl(monkeypatch, "spec", "schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert list(schema["properties"]) == list(Experiment.model_fields)
    kinds = {variant["properties"]["kind"]["const"]: variant for variant in schema["properties"]["data"]["anyOf"]}
    assert {"digits", "crema-d", "manifest"} <= set(kinds)
    assert kinds["crema-d"]["properties"]["val_fraction"]["description"].startswith("Fraction for validation")

    def keys(part: object) -> set[str]:
        items = part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
        return set(part if isinstance(part, dict) else ()).union(*map(keys, items))

    assert not {"required", "oneOf", "discriminator"} & keys(schema)
    encoders = schema["$defs"]["ModelOptions"]["properties"]["encoders"]["additionalProperties"]["anyOf"]
    named = [choice["properties"]["kind"]["const"] for choice in encoders[0]["anyOf"]]
    assert named == ["auto", "patch_splitting", "series", "vector", "tokens"]
    assert encoders[1] == {"type": "null"}


IN_FILES = [
    # What is written, the recipe beneath, and what is said, in which AT is the file.
    ("trian: {epochs: 3}", "", "AT:1:8: trian: no such option (did you mean train?); there are: data, model, train, "),
    ("epochs: 3", "", "AT:1:9: epochs: no such option (did you mean train.epochs?); there are: "),
    ("train:\n  lr: 3", "", "AT:2:7: train.lr: no such option (did you mean train.learning_rate?); train has: epochs"),
    (
        "train:\n  epochs: 0",
        "",
        "AT:2:11: train.epochs = 0: must be a whole number ≥ 1 or auto",
    ),
    (
        "train:\n  epochs: many",
        "",
        "AT:2:11: train.epochs = many: must be a whole number ≥ 1 or auto",
    ),
    (
        "train:\n  epochs: 2.5",
        "",
        "AT:2:11: train.epochs = 2.5: must be a whole number ≥ 1 or auto",
    ),
    (
        "train:\n  epochs: [3]",
        "",
        "AT:2:11: train.epochs = 3: must be a whole number ≥ 1 or auto",
    ),
    (
        "train: {precision: flaot16}",
        "",
        "AT:1:20: train.precision = flaot16: must be one of float32, bfloat16, float16 (did you mean float16?)",
    ),
    ("train: 3", "", "AT:1:8: train: a group, not an option; train has: epochs, "),
    ("train:\n  epochs: 3\n  epochs: 4", "", "AT:3:3: train.epochs: is a duplicate, first in line 2"),
    ("train:\n\tepochs: 3", "", "AT:2:1: this is not YAML: while scanning for the next token, found character '\\t' "),
    ("train: [", "", "AT:2:1: this is not YAML: "),
    ("- train", "", "AT:1:1: a configuration file must have fields, as in train: {epochs: 20}"),
    ("", "", "AT:1:1: the file is empty"),
    ("out: !!python/name:os.system x", "", "AT:1:6: out: the tag !!python/name:os.system is not allowed: "),
    ("data:\n  kind: manifset", "", "AT:2:9: data.kind = manifset: unknown dataset kind 'manifset'; did you mean man"),
    ("data:\n  kind: manifest", "", "--data.root is required when data.kind is manifest (AT:2:9)"),
    (
        "data:\n  test_fold: 3",
        "",
        "AT:2:14: data.test_fold: only data.kind=urbansound8k-av has it; data.kind is digits (add data.kind: urban",
    ),
    (
        "data:\n  kind: digits\n  test_fold: 3",
        "",
        "AT:3:14: data.test_fold: only data.kind=urbansound8k-av has it; data.kind is digits (change data.kind to urba",
    ),
    ("data: {modalities: [smell]}", "", "AT:1:7: data: digits has no modality 'smell'; choose among audio, visual, t"),
    (
        "data:\n  val_fraction: 0",
        "scmrl-cremad",
        "AT:2:17: data: val_fraction 0.0 and test_fraction 0.2 are fractions of the actors: both must be above 0, and",
    ),
    (
        "model:\n  channels: 40",
        "",
        "AT:2:13: model: channels (40) must be divisible by fusion.num_heads (16); with thes",
    ),
    (
        "model:\n  fusion: none",
        "",
        "AT:2:11: model.fusion: a group, not an option (did you mean model.fusion.kind: none?); model.fusion has: kind",
    ),
    (
        "model:\n  fusion: {kind: none}",
        "",
        "AT:2:18: model: alignment needs residuals, but fusion.kind none has none",
    ),
    ("model: {encoders: [audio]}", "", "AT:1:19: model.encoders: a group, not an option; model.encoders has: <"),
    (
        "model:\n  encoders:\n    audio: {kind: serie}",
        "",
        "AT:3:19: model.encoders.audio.kind = serie: unknown encoder kind 'serie'; did you mean series?",
    ),
    (
        "model:\n  encoders:\n    audio: {num_stages: 3}",
        "",
        "AT:3:25: model.encoders.audio.num_stages: only model.encoders.audio.kind=series has it; model.encoders."
        "audio.kind is auto (add model.encoders.audio.kind: series)",
    ),
    (
        "model:\n  encoders:\n    audio: {kind: series, num_stages: 0}",
        "",
        "AT:3:39: model.encoders.audio.num_stages = 0: must be a whole number ≥ 1",
    ),
    (
        "model:\n  encoders:\n    adio: {kind: series}",
        "",
        "AT:3:11: model.encoders.adio: the data have no such modality (did you mean audio?); there are: audio",
    ),
    (
        "model:\n  encoders: {audio: null, visual: null}",
        "",
        "AT:2:13: model.encoders excludes all modalities that are read: audio, visual; keep one",
    ),
]


@pytest.mark.parametrize(("text", "beneath", "message"), IN_FILES)
def test_a_fault_in_a_file_is_reported_with_its_line(text: str, beneath: str, message: str, tmp_path: Path):
    path = write(tmp_path, text + "\n" if text else "")
    tokens = (beneath, "--config", str(path)) if beneath else ("--config", str(path))
    (output,) = faults_of(*tokens)
    assert output.startswith(message.replace("AT", str(path)))


ON_THE_COMMAND_LINE = [
    ("digit", "digit: no such recipe (did you mean digits?); there are: digits, three-modalities, "),
    ("train.epochs=3", "train.epochs=3: no such recipe; there are: digits, three-modalities, scmrl-cremad, "),
    ("--seed 1 digits", "digits: options start with --, as in --name value"),
    ("--config", "--config: needs a file, as in --config run.yaml"),
    ("--config --seed 1", "--config: needs a file, as in --config run.yaml"),
    ("--config nowhere.yaml", "nowhere.yaml: there is no such file"),
    ("--config run.toml", "run.toml: a configuration file must end in .yaml, .yml, .json"),
    ("--data.kind manifest", "--data.root is required when data.kind is manifest"),
    ("--data.kind manifset", "--data.kind = manifset: unknown dataset kind 'manifset'; did you mean manifest? known"),
    ("--data.test_fold 3", "--data.test_fold: only data.kind=urbansound8k-av has it; data.kind is digits (add --data."),
    (
        "--data.root x",
        "--data.root: data.kind digits has no such option (add --data.kind manifest; other kinds that have it: ave, ",
    ),
    ("--data.audio_snr loud", "--data.audio_snr = loud: must be a number ≥ -60 and ≤ 100"),
    (
        "--data.audio_nsr 3",
        "--data.audio_nsr: no such option (did you mean --data.audio_snr?); data (kind digits) has: ",
    ),
    ("--model.fusion.kind ccsa", "--model.fusion.kind = ccsa: unknown fusion method kind 'ccsa'; did you mean ccssa?"),
    ("--model.fusion ccssa", "--model.fusion: a group, not an option (did you mean --model.fusion.kind ccssa?); model"),
    ("--model.neuron.tau 0", "--model.neuron.tau = 0: must be a number ≥ 1"),
    (
        "--model.alignment none --model.alignment.weight 2",
        "--model.alignment.weight = 2: but --model.alignment = none;",
    ),
    ("--model.encoders.touch series", "--model.encoders.touch: a group, not an option (did you mean --model.encod"),
    ("--model.encoders.touch.num_stages 2", "--model.encoders.touch.num_stages: only model.encoders.touch.kind="),
    ("--model.encoders.sight null", "model.encoders.sight: the data have no such modality; there are: audio, vis"),
    ("--train.epochs", "--train.epochs: needs a value (int ≥ 1 | auto)"),
    ("scmrl-cremad --data.val_fraction 2", "--data.val_fraction = 2: must be a number ≥ 0 and < 1"),
    ("scmrl-cremad --data.image_noise 2", "--data.image_noise: only data.kind=digits or manifest has it; data.kind is"),
    (
        "--data.kind manifest --data.root x --data.columns.a.reader.kind series --data.columns.a.reader.rte 3",
        "--data.columns.a.reader.rte: no such option (did you mean --data.columns.a.reader.rate?); ",
    ),
    (
        "--data.kind manifest --data.root x --data.modalities a --model.encoders.a null",
        "model.encoders excludes all modalities that are read: a; keep one",
    ),
    (
        "--data.kind manifest --data.root x --model.encoders.a null",
        "model.encoders.a is none, but the other modalities are only known from the files: name the modalities",
    ),
]


@pytest.mark.parametrize(("options", "message"), ON_THE_COMMAND_LINE)
def test_a_fault_on_the_command_line_is_reported_in_its_terms(options: str, message: str):
    (output,) = faults_of(*options.split())
    assert output.startswith(message)


def test_bytes_that_are_not_text_are_reported(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"seed: \xff\n")
    assert faults_of("--config", str(path)) == [f"{path}: not UTF-8: byte 6 is 0xff"]


def test_a_folder_is_not_a_configuration_file(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.mkdir()
    assert faults_of("--config", str(path)) == [f"{path}: cannot be read: Is a directory"]


def test_faults_of_files_and_options_are_reported_together(tmp_path: Path):
    path = write(tmp_path, "train: {epochs: 0}\nsede: 3\n")
    message = faults_of("--config", str(path), "--train.batch_size", "1", "--train.lrr", "2")
    assert [fault.partition(": ")[0] for fault in message] == [
        f"{path}:2:7",
        "--train.lrr",
        f"{path}:1:17",
        "--train.batch_size = 1",
    ]


def test_a_fault_of_a_recipe_names_it():
    with pytest.raises(OptionError, match=r"^seed = -1 \(recipe mine\): must be a whole number ≥ 0 and < 4294967296$"):
        load(Experiment, [], defaults={"seed": -1}, defaults_from="recipe mine")


def test_any_topology_can_be_given_as_text():
    assert read(("--model.fusion.topology", "ring")).model.fusion.model_dump()["topology"] == "ring"
