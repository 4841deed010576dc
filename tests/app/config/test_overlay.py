"""The overlay: dotted options over nested specs, and its error messages."""

import random
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import core_schema
from rich.console import Console

from scmrl.config.experiment import Experiment
from scmrl.config.overlay import OptionError, OptionHelp, help_table, load, options_of


class Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class RandomSplit(Spec):
    kind: Literal["random"] = "random"
    fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the samples held out."""


class SpeakerSplit(Spec):
    kind: Literal["speaker"] = "speaker"
    held_out: int = Field(default=2, ge=1)
    """Speakers held out."""


class Digits(Spec):
    """Small images of digits."""

    kind: Literal["digits"] = "digits"
    size: int = 16
    """Edge in pixels."""
    modalities: tuple[str, ...] = ("audio", "visual")
    """Modalities to read."""


class Manifest(Spec):
    """Files named by a table."""

    kind: Literal["manifest"] = "manifest"
    root: Path
    """Folder of the files."""
    modalities: tuple[str, ...] = ("audio", "visual")
    """Modalities to read."""
    split: Annotated[RandomSplit | SpeakerSplit, Field(discriminator="kind")] = RandomSplit()
    """How to hold samples out."""

    @field_validator("root")
    @classmethod
    def has_no_tilde(cls, root: Path) -> Path:
        if str(root).startswith("~"):
            raise ValueError("write the home folder out")
        return root


class Frames(Spec):
    kind: Literal["frames"] = "frames"
    channels: int = Field(default=3, ge=1)


class Events(Spec):
    kind: Literal["events"] = "events"
    window: float = Field(gt=0)
    """Length of a window in seconds."""


class Loss(Spec):
    temperature: float = Field(default=0.1, gt=0)


class Model(Spec):
    alpha: float = 0.5
    """Residual
    scale."""
    size: tuple[int, int] = (8, 8)
    encoders: dict[str, Annotated[Frames | Events, Field(discriminator="kind")]] = {"visual": Frames(channels=1)}
    """One encoder per modality."""
    weights: dict[str, float] = {"audio": 0.5}
    losses: dict[str, Loss] = {}


class Early(Spec):
    patience: int = Field(default=5, ge=1)


class Train(Spec):
    epochs: int = Field(default=10, ge=1)
    """Passes over the training data."""
    batch_size: int = 32
    learning_rate: float = Field(default=1e-3, gt=0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    warmup: int = 0
    amp: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    limit: int | None = None
    topology: Literal["all", "ring"] | tuple[str, ...] = "all"
    early: Early | None = None
    """When to stop before the last epoch."""

    @model_validator(mode="after")
    def warms_up_in_time(self) -> "Train":
        if self.warmup > self.epochs:
            raise ValueError(f"warmup ({self.warmup}) is longer than epochs ({self.epochs})")
        return self


class Run(Spec):
    seed: int = 0
    name: str = Field(default="run", min_length=1)
    data: Annotated[Digits | Manifest, Field(discriminator="kind")] = Digits(size=8)
    """What to learn from."""
    model: Model = Model()
    train: Train

    @model_validator(mode="after")
    def has_a_seed_for_bf16(self) -> "Run":
        if self.train.precision == "bf16" and self.seed == 0:
            raise ValueError("bf16 needs a seed; add --seed 1")
        return self


def test_no_options_give_the_spec_itself():
    assert load(Run, []) == Run(train=Train())


@pytest.mark.parametrize(
    ("options", "path", "value"),
    [
        ("--train.epochs 3", "train.epochs", 3),
        ("--train.epochs=3", "train.epochs", 3),
        ("--train.batch-size 4", "train.batch_size", 4),
        ("--model.alpha -2", "model.alpha", -2.0),
        ("--model.alpha -1e-3", "model.alpha", -1e-3),
        ("--train.amp", "train.amp", True),
        ("--train.amp --seed 1", "train.amp", True),
        ("--train.amp true", "train.amp", True),
        ("--train.amp=false", "train.amp", False),
        ("--no-train.amp", "train.amp", False),
        ("--train.limit 5", "train.limit", 5),
        ("--train.limit none", "train.limit", None),
        ("--name none", "name", "none"),
        ("--name a=b", "name", "a=b"),
        ("--data.modalities audio,visual", "data.modalities", ("audio", "visual")),
        ("--data.modalities audio", "data.modalities", ("audio",)),
        ("--data.modalities=", "data.modalities", ()),
        ("--model.size 3,4", "model.size", (3, 4)),
        ("--train.topology ring", "train.topology", "ring"),
        ("--train.topology a,b", "train.topology", ("a", "b")),
        ("--data.size 9", "data", Digits(size=9)),
        ("--data.kind digits", "data", Digits(size=8)),
        ("--data.kind manifest --data.root a/b", "data", Manifest(root=Path("a/b"))),
        ("--data.root a/b --data.kind manifest", "data", Manifest(root=Path("a/b"))),
        (
            "--data.split.held_out 3 --data.root a --data.split.kind speaker --data.kind manifest",
            "data",
            Manifest(root=Path("a"), split=SpeakerSplit(held_out=3)),
        ),
        (
            "--model.encoders.touch.window 0.1 --model.encoders.touch.kind events",
            "model.encoders",
            {"visual": Frames(channels=1), "touch": Events(window=0.1)},
        ),
        ("--model.encoders.visual.channels 2", "model.encoders", {"visual": Frames(channels=2)}),
        ("--model.encoders.visual none", "model.encoders", {}),
        ("--model.weights.touch 2", "model.weights", {"audio": 0.5, "touch": 2.0}),
        ("--model.weights.audio null", "model.weights", {}),
        ("--model.losses.mine.temperature 2", "model.losses", {"mine": Loss(temperature=2)}),
        ("--train.early.patience 3", "train.early", Early(patience=3)),
        ("--train.early none", "train.early", None),
    ],
)
def test_option_sets_its_field(options: str, path: str, value: object):
    result: object = load(Run, options.split())
    for name in path.split("."):
        result = getattr(result, name)
    assert result == value
    assert type(result) is type(value)


THERE_ARE = "there are: seed, name, data, model, train"
TRAIN_HAS = "train has: epochs, batch_size, learning_rate, dropout, warmup, amp, precision, limit, topology, early"
MISTAKES = [
    # Unknown names.
    (
        "--train.lrr 3",
        "--train.lrr: no such option (did you mean --train.learning_rate?); " + TRAIN_HAS,
    ),
    (
        "--epochs 3",
        f"--epochs: no such option (did you mean --train.epochs?); {THERE_ARE}",
    ),
    (
        "--trian.epochs 3",
        f"--trian.epochs: no such option (did you mean --train.epochs?); {THERE_ARE}",
    ),
    ("--sede 3", f"--sede: no such option (did you mean --seed?); {THERE_ARE}"),
    ("--zzz", f"--zzz: no such option; {THERE_ARE}"),
    (
        "--data.sise 3",
        "--data.sise: no such option (did you mean --data.size?); data (kind digits) has: kind, size, modalities",
    ),
    ("--model.alpha.x 3", "--model.alpha.x: no such option; --model.alpha takes one value"),
    (
        "--train 3",
        f"--train: a group, not an option; {TRAIN_HAS}",
    ),
    (
        "--data manifest",
        "--data: a group, not an option (did you mean --data.kind manifest?); "
        "data has: kind, size, modalities, root, split",
    ),
    (
        "--model.encoders.visual.chanels 2",
        "--model.encoders.visual.chanels: no such option (did you mean --model.encoders.visual.channels?); "
        "model.encoders.visual (kind frames) has: kind, channels",
    ),
    (
        "--model.encoders.visul none",
        "--model.encoders.visul = none: no such entry (did you mean visual?); model.encoders has: visual",
    ),
    ("--model.losses.a none", "--model.losses.a = none: no such entry; model.losses has: no entries"),
    ("--model.encoders..kind=events", "--model.encoders..kind: no such option; model.encoders has: <name>"),
    # Options of another variant.
    ("--data.root X", "--data.root: only data.kind=manifest has it; data.kind is digits (add --data.kind manifest)"),
    (
        "--data.kind manifest --data.root X --data.split.held_out 3",
        "--data.split.held_out: only data.split.kind=speaker has it; "
        "data.split.kind is random (add --data.split.kind speaker)",
    ),
    (
        "--data.kind digits --data.root X",
        "--data.root: only data.kind=manifest has it; data.kind is digits (change --data.kind to manifest)",
    ),
    (
        "--model.encoders.touch.window 1 --model.encoders.touch.kind frames",
        "--model.encoders.touch.window: only model.encoders.touch.kind=events has it; "
        "model.encoders.touch.kind is frames (change --model.encoders.touch.kind to events)",
    ),
    # Values.
    ("--train.epochs 0", "--train.epochs = 0: must be a whole number ≥ 1"),
    ("--train.epochs ten", "--train.epochs = ten: must be a whole number ≥ 1"),
    ("--seed 1.5", "--seed = 1.5: must be a whole number"),
    ("--train.dropout 1", "--train.dropout = 1: must be a number ≥ 0 and < 1"),
    ("--model.alpha big", "--model.alpha = big: must be a number"),
    ("--train.amp maybe", "--train.amp = maybe: must be true or false"),
    ("--train.precision bf61", "--train.precision = bf61: must be one of fp32, bf16 (did you mean bf16?)"),
    ("--data.kind manifset", "--data.kind = manifset: must be one of digits, manifest (did you mean manifest?)"),
    (
        "--data.kind manifset --data.root X",
        "--data.kind = manifset: must be one of digits, manifest (did you mean manifest?)",
    ),
    ("--model.size 3", "--model.size = 3: must have 2 items (int,int)"),
    ("--model.size 3,4,5", "--model.size = 3,4,5: must be a list of 2, each a whole number"),
    ("--model.size 3,x", "--model.size = 3,x: must be a list of 2, each a whole number"),
    ("--name=", "--name = '': must have at least 1 character"),
    ("--seed none", "--seed = none: must be a whole number"),
    ("--train.limit few", "--train.limit = few: must be a whole number"),
    (
        "--train none",
        f"--train: a group, not an option; {TRAIN_HAS}",
    ),
    ("--model.encoders.visual.channels 0", "--model.encoders.visual.channels = 0: must be a whole number ≥ 1"),
    ("--model.weights.audio loud", "--model.weights.audio = loud: must be a number"),
    ("--data.kind manifest --data.root ~/x", "--data.root = ~/x: write the home folder out"),
    # Forgotten.
    ("--data.kind manifest", "--data.root is required when data.kind is manifest"),
    (
        "--model.encoders.touch.kind events",
        "--model.encoders.touch.window is required when model.encoders.touch.kind is events",
    ),
    ("--model.encoders.touch.channels 2", "--model.encoders.touch.kind is required: frames or events"),
    ("--train.epochs", "--train.epochs: needs a value (int ≥ 1)"),
    ("--train.epochs --seed 3", "--train.epochs: needs a value (int ≥ 1)"),
    ("--data.kind", "--data.kind: needs a value (digits | manifest)"),
    # Twice, junk and contradictions.
    ("--seed 3 --seed=5", "--seed: given twice, as 3 and as 5; keep one"),
    ("--train.amp --no-train.amp", "--train.amp: given twice, as true and as false; keep one"),
    ("--no-train.epochs", "--no-train.epochs: only a bool can be negated with --no-"),
    ("--no-train.amp=true", "--no-train.amp: takes no value"),
    ("train epochs 3", "train epochs 3: options start with -- (did you mean --train.epochs?)"),
    ("train.epochs=3", "train.epochs=3: options start with -- (did you mean --train.epochs?)"),
    ("--seed 1 now", "now: options start with --, as in --name value"),
    ("-s 3", "-s 3: options start with --, as in --name value"),
    (
        "--train.early none --train.early.patience 3",
        "--train.early.patience = 3: but --train.early = none; give one or the other",
    ),
    # Validators.
    ("--train.warmup 20", "train: warmup (20) is longer than epochs (10)"),
    ("--train.precision bf16", "bf16 needs a seed; add --seed 1"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_a_fault_is_one_line(options: str, message: str):
    with pytest.raises(OptionError) as caught:
        load(Run, options.split())
    assert str(caught.value) == message


def test_all_faults_are_reported_at_once():
    with pytest.raises(OptionError) as caught:
        load(Run, ["--train.lrr", "1", "--train.epochs", "0", "--seed", "x"])
    assert [fault.partition(":")[0] for fault in caught.value.faults] == [
        "--train.lrr",
        "--seed = x",
        "--train.epochs = 0",
    ]


def test_defaults_override_the_spec_and_options_override_defaults():
    defaults = {"train": {"epochs": 3, "warmup": 2}, "data": {"kind": "manifest", "root": "a"}}
    run = load(Run, ["--train.epochs", "4"], defaults=defaults)
    assert (run.train.epochs, run.train.warmup, run.data) == (4, 2, Manifest(root=Path("a")))
    assert load(Run, ["--data.kind", "digits"], defaults=defaults).data == Digits()


def test_defaults_may_contain_specs():
    run = load(Run, ["--data.modalities", "audio"], defaults={"data": Digits(size=3), "train": {"early": Early()}})
    assert run.data == Digits(size=3, modalities=("audio",))
    assert run.train.early == Early()


def test_table_of_defaults_replaces_and_option_merges():
    defaults = {"model": {"weights": {"touch": 1}}}
    assert load(Run, ["--model.weights.smell", "2"], defaults=defaults).model.weights == {"touch": 1, "smell": 2}


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"train": {"epochs": 0}}, "train.epochs = 0 (defaults): must be a whole number ≥ 1"),
        (
            {"data": {"root": "a"}},
            "data.root: only data.kind=manifest has it; data.kind is digits (add data.kind: manifest)",
        ),
        (
            {"data": {"kind": "digits", "root": "a"}},
            "data.root: only data.kind=manifest has it; data.kind is digits (change data.kind to manifest)",
        ),
        ({"sed": 1}, f"sed: no such option (did you mean seed?); {THERE_ARE}"),
    ],
)
def test_fault_of_defaults_names_its_source(defaults: dict[str, object], message: str):
    with pytest.raises(OptionError) as caught:
        load(Run, [], defaults=defaults)
    assert str(caught.value) == message


def test_an_option_overrides_the_kind_of_defaults():
    with pytest.raises(OptionError, match=r"data\.kind is digits \(add --data\.kind manifest\)$"):
        load(Run, ["--data.root", "a"], defaults={"data": {"kind": "digits"}})


class Shelf(dict[str, type[BaseModel]]):
    """A registry that is parsed by `kind` in a function, so that errors do not contain the kind."""

    default: str | None = None

    def specs(self) -> dict[str, type[BaseModel]]:
        return self

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return id(self)

    def parse(self, value: object) -> BaseModel:
        if isinstance(value, BaseModel):
            return value
        assert isinstance(value, dict)
        return self[value.get("kind", self.default)].model_validate(value)

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)


SHELF = Shelf(digits=Digits, manifest=Manifest)
SHELF.default = "digits"


class Offered(Spec):
    data: Annotated[Spec, SHELF] = Digits(size=8)
    parts: dict[str, Annotated[Spec, SHELF] | None] = {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data.kind manifest", "--data.root is required when data.kind is manifest"),
        ("--data.size x", "--data.size = x: must be a whole number"),
        ("--parts.a.kind manifest", "--parts.a.root is required when parts.a.kind is manifest"),
        ("--parts.a.size x", "--parts.a.size = x: must be a whole number"),
        (
            "--parts.a.root x",
            "--parts.a.root: only parts.a.kind=manifest has it; parts.a.kind is digits (add --parts.a.kind manifest)",
        ),
        (
            "--data.kind manifest --data.root x --data.split.kind speaker --data.split.held_out 0",
            "--data.split.held_out = 0: must be a whole number ≥ 1",
        ),
    ],
)
def test_faults_in_specs_of_a_registry_are_reported_alike(options: str, message: str):
    with pytest.raises(OptionError) as caught:
        load(Offered, options.split())
    assert str(caught.value) == message


def test_an_entry_without_a_kind_has_the_default_kind():
    result = load(Offered, ["--parts.a.size", "3", "--parts.b", "none"])
    assert result.parts == {"a": Digits(size=3), "b": None}


def test_files_override_defaults_and_options_override_files(tmp_path: Path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.json"
    first.write_text("train: {epochs: 4, warmup: 2}\nmodel: {weights: {touch: 1}}\n", encoding="utf-8")
    second.write_text('{"train": {"warmup": 3}}', encoding="utf-8")
    run = load(
        Run,
        ["--model.weights.smell", "2"],
        defaults={"train": {"epochs": 5, "batch_size": 8}},
        files=(first, second),
    )
    assert (run.train.epochs, run.train.warmup, run.train.batch_size) == (4, 3, 8)
    assert run.model.weights == {"touch": 1, "smell": 2}


def test_fault_of_a_file_names_its_line_and_field(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("seed: 0\ntrain:\n  warmup: 20\n  epochs: 3\n  lrr: 3\n", encoding="utf-8")
    with pytest.raises(OptionError) as caught:
        load(Run, [], files=(path,))
    assert caught.value.faults == (
        f"{path}:5:8: train.lrr: no such option (did you mean train.learning_rate?); {TRAIN_HAS}",
        f"{path}:3:11: train: warmup (20) is longer than epochs (3)",
    )


def test_any_tokens_give_a_spec_or_an_option_error():
    draw = random.Random(0)
    words = [option.name for option in options_of(Run)] + [
        "--data",
        "--train",
        "--model.encoders.a.b",
        "--",
        "--.",
        "--no-",
    ]
    values = ["3", "-1", "none", "true", "a,b", "", "manifest", "speaker", "x", "="]
    messages: list[str] = []
    for _ in range(300):
        tokens = draw.choices([*words, *values], k=draw.randint(1, 6))
        try:
            load(Run, tokens)
        except OptionError as error:
            messages += error.faults
    assert len(messages) > 300
    assert not [fault for fault in messages if "pydantic" in fault or "Value error" in fault or "\n" in fault]


def test_help_of_an_option_is_complete():
    by_name = {option.name: option for option in options_of(Run)}
    assert by_name["--train.epochs"] == OptionHelp(
        name="--train.epochs",
        type="int ≥ 1",
        default="10",
        meaning="Passes over the training data.",
        group="train",
    )
    assert by_name["--data.root"] == OptionHelp(
        name="--data.root",
        type="path",
        default="required",
        meaning="Folder of the files.",
        group="data",
        variant="manifest",
    )
    # The default of the tree counts, not that of the variant's class.
    assert by_name["--data.size"].default == "8"
    assert by_name["--data.modalities"].variant == ""
    assert by_name["--data.split.held_out"].variant == "manifest / speaker"
    assert by_name["--model.alpha"].meaning == "Residual scale."
    assert by_name["--data.kind"].meaning == (
        "What to learn from. digits: Small images of digits. manifest: Files named by a table."
    )


def choices_of(option: OptionHelp) -> list[str]:
    """Tokens that select the kinds that have an option."""
    known = {other.name for other in options_of(Run)}
    parts = option.name.split(".")
    tags = [".".join([*parts[:depth], "kind"]) for depth in range(1, len(parts))]
    tags = [tag for tag in tags if tag in known and tag != option.name]
    kinds = option.variant.split(" / ") if option.variant else []
    return [token for tag, kind in zip(tags, kinds, strict=False) for token in (tag, kind)]


@pytest.mark.parametrize("option", options_of(Run), ids=lambda option: f"{option.name} {option.variant}".strip())
def test_described_options_are_accepted(option: OptionHelp):
    examples = {"path": "a/b", "float > 0": "0.5", "frames | events": "frames", "float | none": "2", "none": "none"}
    value = examples.get(option.type, option.default)
    tokens = [*choices_of(option), option.name, value]
    if "manifest" in tokens and option.name != "--data.root":
        tokens += ["--data.root", "x"]
    load(
        Run,
        [token.replace("<name>", "mine") for token in tokens],
        defaults={"model": {"losses": {"mine": {}}, "encoders": {"mine": Frames()}}},
    )


@pytest.mark.parametrize("width", [80, 160])
def test_help_table_wraps_and_truncates_nothing(width: int):
    file = StringIO()
    console = Console(file=file, width=width, force_terminal=False)
    console.print(help_table(Run))
    lines = file.getvalue().splitlines()
    text = "\n".join(lines)
    assert max(map(len, lines)) == width
    assert "…" not in text
    for word in ("general", "--model.losses.<name>.temperature", "--[no-]train.amp", "required", "held"):
        assert word in text


def test_overlay_needs_no_torch():
    code = "import sys, scmrl.config.overlay; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_suggested_kind_has_all_options_and_is_the_likely_one():
    def faults(*options: str, **more: Any) -> str:
        with pytest.raises(OptionError) as caught:
            load(Experiment, options, **more)
        return str(caught.value)

    likely = {"data": "manifest"}
    assert "data.kind digits has no such option (add --data.kind manifest; other" in faults(
        "--data.root", "x", suggested=likely
    )
    assert "(add --data.kind crema-d)" in faults("--data.root", "x", "--data.protocol", "published", suggested=likely)
    assert faults("--data.root", "x", "--data.columns.imu.reader.kind", "series").count("add --data.kind manifest") == 2


def test_a_missing_group_is_suggested():
    with pytest.raises(OptionError, match=r"did you mean --data\.columns\.imu\?"):
        load(Experiment, ["--columns.imu", "x"])
