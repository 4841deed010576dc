"""`scmrl predict` from the command line, with valid and hostile files."""

import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from app.finished import finished_run, scmrl
from app.tiny import RATE, write_tiny_dataset
from scmrl.engine.evaluate import predict_split
from scmrl.engine.parallel import Processes
from scmrl.run_folder.checksummed import read_checksummed, write_checksummed
from scmrl.run_folder.files import read_experiment
from scmrl.run_folder.inputs import load_inputs, save_inputs
from snn_datasets import DatasetInfo, DatasetSplits, InMemoryDataset, ModalityInfo, RecordedDataset
from snn_fusion import from_pretrained


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data"), train=40, test=9)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Noise is drawn by sample: a clip gets that of the training only if it is read in every way as there.
    options = ("--data.image-noise", "0.2", "--data.audio-snr", "10")
    return finished_run(data, tmp_path_factory.mktemp("predict") / "run", *options)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_manifest_without_labels_gives_the_predictions_of_the_test_split(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    rows = [line.split(",") for line in (data / "manifest.csv").read_text().splitlines() if line.startswith("test")]
    manifest = data / "new.csv"
    manifest.write_text("note,audio,image\n" + "".join(f'"a, b",{row[3]},{row[2]}\n' for row in rows))
    shutil.move(data / "manifest.csv", data / "moved.csv")  # the training data are not asked
    try:
        assert scmrl(monkeypatch, "predict", run, manifest, "--json") == 0
    finally:
        shutil.move(data / "moved.csv", data / "manifest.csv")
    result = lines(capsys)
    splits = read_experiment(run).data.build()
    expected = predict_split(
        from_pretrained(run), splits.test, batch_size=4, processes=Processes.single(torch.device("cpu"))
    )
    assert [entry["id"] for entry in result] == expected.ids
    shares = torch.tensor([list(entry["probabilities"].values()) for entry in result])
    torch.testing.assert_close(shares, expected.probabilities)
    assert list(result[0]["probabilities"]) == ["left", "right"]
    assert [entry["class"] for entry in result] == [("left", "right")[k] for k in expected.probabilities.argmax(1)]


def test_settings_of_the_training_are_restored(run: Path):
    splits = read_experiment(run).data.build()
    inputs = load_inputs(run)
    assert isinstance(splits.test, RecordedDataset)
    assert inputs.classes == ("left", "right")
    assert inputs.modalities == {
        name: type(modality)(modality.reader, modality.info, modality.cached, (), modality.per_read)
        for name, modality in splits.test.modalities.items()
    }


def test_pairs_are_one_clip_and_modalities_may_be_missing(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    both = f"image={data / 'test0.png'}", f"audio={data / 'test0.wav'}"
    assert scmrl(monkeypatch, "predict", run, *both) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1
    assert printed[0].startswith(f"{data / 'test0.png'}+{data / 'test0.wav'}: ")
    assert {word for word in ("left", "right") if word in printed[0]} == {"left", "right"}
    assert scmrl(monkeypatch, "predict", run, both[1]) == 0
    assert capsys.readouterr().out.endswith(" (without image)\n")


def test_files_of_a_folder_are_paired_by_name(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for target in ("image/a/1.png", "audio/a/1.wav", "image/b/1.png", "2.wav", "2.png", ".hidden/3.png"):
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / f"test0{Path(target).suffix}", tmp_path / target)
    (tmp_path / "read me.txt").write_text("no recording")
    assert scmrl(monkeypatch, "predict", run, tmp_path, "--json") == 0
    result = {entry["id"]: (sorted(entry["files"]), entry["without"]) for entry in lines(capsys)}
    assert result == {
        str(Path("a", "1")): (["audio", "image"], []),
        str(Path("b", "1")): (["image"], ["audio"]),
        "2": (["audio", "image"], []),
    }


def test_single_files_are_paired_by_name(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    files = [data / name for name in ("test1.wav", "test2.png", "test1.png")]
    assert scmrl(monkeypatch, "predict", run, *files, "--json") == 0
    result = {entry["id"]: entry["without"] for entry in lines(capsys)}
    assert result == {str(data / "test1"): [], str(data / "test2"): ["audio"]}


def test_two_files_for_one_modality_are_refused(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    shutil.copy(data / "test0.png", tmp_path / "1.png")
    shutil.copy(data / "test0.png", tmp_path / "1.jpg")
    assert scmrl(monkeypatch, "predict", run, tmp_path) == 1
    assert "image has two files" in capsys.readouterr().err


def test_a_video_gives_its_frames_and_its_audio(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_video(tmp_path / "clip.mp4")
    assert scmrl(monkeypatch, "predict", run, tmp_path / "clip.mp4", "--json") == 0
    (entry,) = lines(capsys)
    assert sorted(entry["files"]) == ["audio", "image"]
    assert entry["without"] == []
    shutil.copy(data / "test0.wav", tmp_path / "clip.wav")
    assert scmrl(monkeypatch, "predict", run, tmp_path, "--json") == 0
    (entry,) = lines(capsys)
    assert {name: Path(path).suffix for name, path in entry["files"].items()} == {"image": ".mp4", "audio": ".wav"}


def write_video(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=10), container.add_stream("aac", rate=16000)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        for number in range(10):
            pixels = np.full((32, 32, 3), 20 * number, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        sound = np.sin(np.arange(16000) / 5).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(audio.encode(frame))
        for stream in (video, audio):
            container.mux(stream.encode(None))


def png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")


def wave(samples: bytes, *, length: int, rate: int = RATE) -> bytes:
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + length) + b"WAVE" + head + b"data" + struct.pack("<I", length) + samples


HOSTILE = {
    "empty.png": b"",
    "text.png": b"not a picture at all, but long enough to have a head",
    "huge.png": png(2**31 - 1, 2**31 - 1, b"\0"),
    "bomb.png": png(60_000, 60_000, bytes(50_000_000)),
    "lfs.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "empty.wav": b"",
    "silent.wav": wave(b"", length=0),
    "cut.wav": wave(b"\0\1" * 50, length=4000),
    "web.wav": b"<!DOCTYPE html><html>log in</html>",
    "noise.wav": bytes(range(256)) * 20,
    "empty.mp4": b"",
    "noise.mp4": b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 20,
}

ODD = {
    # A writer to a pipe does not know the length and claims an impossible one, so the file is read to its end.
    "claims.wav": wave(b"\0\1" * 50, length=0xFFFF_0000),
    # Any rate is brought to that of the training.
    "rate.wav": wave(b"\0\1" * 50, length=100, rate=2**31 - 1),
}


def test_unusual_audio_headers_are_accepted(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name, content in ODD.items():
        (tmp_path / name).write_bytes(content)
    assert scmrl(monkeypatch, "predict", run, tmp_path) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [line.partition(":")[0] for line in printed.out.splitlines()] == ["claims", "rate"]


def test_hostile_files_get_one_line_each_and_the_rest_is_predicted(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name, content in HOSTILE.items():
        (tmp_path / name.replace(".", f"-{Path(name).suffix[1:]}.")).write_bytes(content)
    (tmp_path / "cut-png.png").write_bytes((data / "test0.png").read_bytes()[:150])
    not_finite = np.full(400, np.nan, np.float32)
    soundfile.write(tmp_path / "nan-wav.wav", not_finite, RATE, subtype="FLOAT")
    shutil.copy(data / "test0.png", tmp_path / "zz.png")
    before = sorted(path.relative_to(run) for path in run.rglob("*"))
    here = sorted(tmp_path.iterdir())

    assert scmrl(monkeypatch, "predict", run, tmp_path) == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert [line.partition(":")[0] for line in printed.out.splitlines()] == ["zz"]
    message = printed.err.splitlines()
    assert message[-1] == f"scmrl: {len(HOSTILE) + 2} of {len(HOSTILE) + 3} clips could not be predicted"
    assert len(message) == len(HOSTILE) + 3
    for path in here[:-1]:
        assert sum(line.startswith(f"scmrl: {path.stem}, ") for line in message) == 1, path
    assert sorted(path.relative_to(run) for path in run.rglob("*")) == before
    assert sorted(tmp_path.iterdir()) == here


def test_a_run_without_readers_is_refused_before_pytorch_is_loaded(run: Path, tmp_path: Path):
    shutil.copy(run / "experiment.json", tmp_path)
    code = (
        "import sys; sys.argv = ['scmrl', 'predict', *sys.argv[1:]]\n"
        "from scmrl.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(tmp_path), "cat.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"scmrl: {tmp_path} has no inputs.json")


def test_the_shortest_sound_is_predicted(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    soundfile.write(tmp_path / "one.wav", np.array([0.5], np.float32), RATE)
    code = scmrl(monkeypatch, "predict", run, tmp_path / "one.wav", "--json")
    (entry,) = lines(capsys)
    assert (code, "probabilities" in entry) in ((0, True), (1, False))
    if code == 0:
        assert sum(entry["probabilities"].values()) == pytest.approx(1)


def test_a_manifest_that_leads_out_of_its_folder_is_refused(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    inner = tmp_path / "inner"
    inner.mkdir()
    shutil.copy(data / "test0.png", tmp_path / "secret.png")
    shutil.copy(data / "test0.png", inner / "fine.png")
    (inner / "link.png").symlink_to(tmp_path / "secret.png")
    names = ("../secret.png", "fine.png", "link.png", "a\0b.png", "gone.png", "x" * 5000 + ".png", "")
    (inner / "new.csv").write_text("sample_id,image\n" + "".join(f"{n},{name}\n" for n, name in enumerate(names)))
    assert scmrl(monkeypatch, "predict", run, inner / "new.csv") == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert [line.partition(":")[0] for line in printed.out.splitlines()] == ["1"]
    assert printed.err.count("leads out of") == 2
    assert "a file name cannot contain a zero byte" in printed.err
    assert "no file at" in printed.err
    assert "its cells for image, audio are empty" in printed.err
    assert printed.err.splitlines()[-1] == "scmrl: 6 of 7 clips could not be predicted"
    assert scmrl(monkeypatch, "predict", run, inner / "new.csv", "--root", tmp_path, "--json") == 1
    assert "probabilities" not in lines(capsys)[0]  # "../secret.png" leads out of that, too


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,audio\n", "has no rows"),
        (b"image,audio,image\na.png,b.wav,c.png\n", "column 'image' occurs 2 times"),
        (b"image,audio\na.png\n", "1 cells, but the header has 2 columns"),
        (b'image,audio\n"a.png,b.wav\n', "check the double quotes of this row"),
        (b"image,audio\n\xff.png,b.wav\n", "is not UTF-8"),
        (b"picture,sound\na.png,b.wav\n", "it is not a manifest, whose header names modalities"),
    ],
)
def test_a_broken_manifest(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    message: str,
):
    (tmp_path / "new.csv").write_bytes(content)
    assert scmrl(monkeypatch, "predict", run, tmp_path / "new.csv") in (1, 2)
    output = capsys.readouterr()
    assert message in output.err
    assert "Traceback" not in output.err
    assert output.out == ""


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8"), ("\t", "utf-16"), ("|", "utf-8-sig")])
def test_a_manifest_is_read_as_in_training(
    data: Path,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    separator: str,
    encoding: str,
):
    header, both = ("Sample ID", "image", "audio", "note"), ("Zoë", "test0.png", "test0.wav", "a, b")
    rows = (header, both, ("two", "test1.png", "", ""))
    (data / "new.csv").write_text("".join(separator.join(row) + "\n" for row in rows), encoding=encoding)
    assert scmrl(monkeypatch, "predict", run, data / "new.csv", "--json") == 0
    assert [(entry["id"], entry["without"]) for entry in lines(capsys)] == [("Zoë", []), ("two", ["audio"])]


def test_a_parquet_table_is_a_manifest(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(
        pyarrow.table({"image": ["test0.png", None], "audio": [None, "test1.wav"]}), data / "new.parquet"
    )
    assert scmrl(monkeypatch, "predict", run, data / "new.parquet", "--json") == 0
    assert [entry["without"] for entry in lines(capsys)] == [["audio"], ["image"]]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1" + bytes(40))
    assert scmrl(monkeypatch, "predict", run, tmp_path / "broken.parquet") == 2
    assert "as a Parquet table" in capsys.readouterr().err


def test_names_cannot_move_the_cursor(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    shutil.copy(data / "test0.png", tmp_path / "a\x1b[2Jb.png")
    (tmp_path / "c\nscmrl: all is well.png").write_bytes(b"")
    assert scmrl(monkeypatch, "predict", run, tmp_path) == 1
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "a\\x1b[2Jb: " in printed.out
    assert len(printed.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "nothing to predict"),
        (["smell=a.png"], 2, "the run has no modality 'smell'; it has image, audio"),
        (["image="], 2, "a file is missing after the ="),
        (["image=a.png", "image=b.png"], 2, "a modality occurs twice"),
        (["image=a.png", "b.wav"], 2, "separate call"),
        (["image=nowhere.png"], 1, "no file at nowhere.png"),
        (["nowhere.png"], 1, "there is no such file or folder"),
    ],
)
def test_mistakes_end_in_a_message(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
):
    monkeypatch.chdir(tmp_path)
    assert scmrl(monkeypatch, "predict", run, *arguments) == code
    output = capsys.readouterr()
    assert message in output.err
    assert "Traceback" not in output.err
    assert output.out == ""


def test_an_empty_folder_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert scmrl(monkeypatch, "predict", run, tmp_path) == 2
    assert "has no file that a modality of this run accepts (image: image or video" in capsys.readouterr().err


def test_samples_that_are_not_read_from_files_cannot_be_predicted(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    result = InMemoryDataset({"image": torch.zeros(2, 1, 4, 4)}, labels=[0, 1], ids=["a", "b"])
    info = DatasetInfo("made", ("x", "y"), {"image": ModalityInfo("image", (1, 4, 4))})
    copy = shutil.copytree(run, tmp_path / "run")
    save_inputs(DatasetSplits(info, result, result, result), copy, seed=0)
    assert scmrl(monkeypatch, "predict", copy, "a.png") == 2
    assert "cannot read files: it was trained on generated samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "snn_datasets.modalities.images:ImageReader",
            "antigravity:fly",
            "belongs to no installed package that registers",
        ),
        ("snn_datasets.modalities.images:ImageReader", "snn_datasets.modalities.images:Resize", "is not a Reader"),
        ("snn_datasets.modalities.images:ImageReader", "snn_datasets.no_such:ImageReader", "cannot be imported"),
        ("snn_datasets.modalities.images:ImageReader", "snn_datasets.modalities.images:Gone", "Gone"),
        ('"channels": 1', '"channels": 7', "channels"),
        ('"format_version": 2', '"format_version": 9', "format version is 9"),
    ],
)
def test_tampered_inputs_are_refused(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    message: str,
):
    copy = shutil.copytree(run, tmp_path / "run")
    text = json.dumps(read_checksummed(copy / "inputs.json"))
    assert old in text
    write_checksummed(copy / "inputs.json", json.loads(text.replace(old, new)))
    assert scmrl(monkeypatch, "predict", copy, "image=a.png") == 2
    output = capsys.readouterr().err
    assert message in output
    assert "Traceback" not in output


def test_a_series_of_nan_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    rng = np.random.default_rng(0)
    rows = []
    for split, count in (("train", 24), ("test", 4)):
        for i in range(count):
            values = np.column_stack([np.arange(20) / 10, rng.normal(size=(20, 3)) + i % 2])
            np.savetxt(tmp_path / f"{split}{i}.csv", values, delimiter=",", header="t,a,b,c", comments="")
            rows.append(f"{split},{'ab'[i % 2]},{split}{i}.csv")
    (tmp_path / "manifest.csv").write_text("split,label,gas\n" + "\n".join(rows) + "\n")
    run = finished_run(tmp_path, tmp_path / "run", "--data.time-steps", "3")
    capsys.readouterr()
    assert scmrl(monkeypatch, "predict", run, f"gas={tmp_path / 'test0.csv'}") == 0
    assert scmrl(monkeypatch, "predict", run, tmp_path / "test1.csv") == 0
    for content in ("0,1,2,nan\n1,1,2,3\n", "0,1,2,inf\n", "0,1,2\n", "", "0,1,2,3e99\n", "0,1,2,x\n", "9" * 9999):
        (tmp_path / "bad.csv").write_text(f"t,a,b,c\n{content}")
        capsys.readouterr()
        assert scmrl(monkeypatch, "predict", run, f"gas={tmp_path / 'bad.csv'}") == 1
        message = capsys.readouterr()
        assert message.out == ""
        assert len(message.err.splitlines()) == 2, message.err


def test_images_of_another_size_and_color_mode_are_converted(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with Image.open(data / "test0.png") as picture:
        picture.resize((160, 160), Image.Resampling.NEAREST).convert("RGB").save(tmp_path / "large.png")
    assert scmrl(monkeypatch, "predict", run, tmp_path / "large.png", "--json") == 0
    assert lines(capsys)[0]["without"] == ["audio"]
