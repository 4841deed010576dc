"""Uploads to `scmrl demo`, by people and by those who wish it ill."""

import errno
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import httpx
import pytest

from app.commands.test_predict_command import HOSTILE, ODD, write_video
from app.misbehaving import Misbehaving
from app.serving import Served, served, tiny_run
from scmrl.demo.refused import RefusedError
from scmrl.demo.sandbox import Sandbox
from scmrl.engine.predict import predict_clips
from scmrl.run_folder.clips import Clip
from scmrl.run_folder.inputs import Inputs, load_inputs
from scmrl.run_folder.open import open_run

STREAM = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory)


@pytest.fixture(scope="module")
def data(run: Path) -> Path:
    return run.parent / "data"


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Served]:
    with served(run, largest_upload=200_000) as server:
        yield server


def send(server: Served, content: bytes, **query: str) -> httpx.Response:
    return server.client.post("/api/clips", params=query, content=content, headers=STREAM)


def chances(server: Served, clip: str | int) -> list[float]:
    return server.client.post("/api/answers", json={"clip": clip}).json()["probabilities"]


def test_a_video_is_answered_as_predict_answers_it(run, server, tmp_path):
    write_video(tmp_path / "clip.mp4")
    sent = send(server, (tmp_path / "clip.mp4").read_bytes(), name="clip.mp4")
    assert sent.status_code == 201
    assert sent.json()["faults"] == {}
    files = dict.fromkeys(("image", "audio"), tmp_path / "clip.mp4")
    (expected,) = predict_clips(open_run(run), [Clip("clip", files)])
    assert chances(server, sent.json()["clip"]) == pytest.approx(list(expected.probabilities.values()), abs=1e-5)
    assert not list(server.uploads.iterdir())


def test_files_join_a_clip(server, data):
    def named(clip: str) -> dict[str, str]:
        return server.client.post("/api/answers", json={"clip": clip}).json()["names"]

    picture, tone = ((data / f"test0.{ending}").read_bytes() for ending in ("png", "wav"))
    first = send(server, picture, name="a.png").json()["clip"]
    assert named(first) == {"image": "a.png"}
    both = send(server, tone, name="b.wav", into=first).json()["clip"]
    assert named(both) == {"image": "a.png", "audio": "b.wav"}
    assert named(first) == {"image": "a.png"}
    assert chances(server, both) == pytest.approx(chances(server, 0), abs=1e-5)  # which is these two files
    other = send(server, (data / "test1.png").read_bytes(), name="c.png", into=both, sense="image").json()["clip"]
    assert named(other) == {"image": "c.png", "audio": "b.wav"}
    assert chances(server, other) != pytest.approx(chances(server, both), abs=1e-4)
    mixed = send(server, picture, name="d.png", into="1").json()["clip"]
    said = server.client.post("/api/answers", json={"clip": mixed}).json()
    assert said["names"]["image"] == "d.png"
    assert said["names"]["audio"].startswith("test1")
    assert said["label"] is None


def test_a_video_without_sound_is_a_picture(server, tmp_path):
    import av

    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    sent = send(server, path.read_bytes(), name="silent.mp4")
    assert sent.status_code == 201
    assert list(sent.json()["faults"]) == ["audio"]
    assert "silent.mp4 has no sound" in sent.json()["faults"]["audio"]


@pytest.mark.parametrize("name", [*HOSTILE, "cut.png"])
def test_what_cannot_be_read_is_told(server, data, name):
    content = HOSTILE[name] if name in HOSTILE else (data / "test0.png").read_bytes()[:150]
    sent = send(server, content[:190_000], name=name)
    assert sent.status_code == 422
    assert name in sent.json()["fault"]
    assert str(server.uploads) not in sent.text
    assert not list(server.uploads.iterdir())


@pytest.mark.parametrize("name", ODD)
def test_odd_headers_of_sound_are_no_fault(server, name):
    assert send(server, ODD[name], name=name).status_code == 201


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("../../escaped.png", 201),
        ("/etc/escaped.png", 201),
        ("..\\escaped.png", 201),
        ("x" * 3000 + ".png", 201),
        ("zero\0byte.png", 201),
        ("<img src=x onerror=alert(1)>.png", 201),
        ("two\nlines\x1b[2J.png", 201),
        (".png", 415),
        ("", 415),
        ("png", 415),
        ("page.html", 415),
        ("program.exe", 415),
        ("picture.png/../../manifest.csv", 415),
        ("picture.png.", 415),
    ],
)
def test_names_lead_nowhere(server, data, name, status):
    sent = send(server, (data / "test0.png").read_bytes(), name=name)
    assert sent.status_code == status
    assert not list(server.uploads.iterdir())
    if status == 201:
        told = server.client.post("/api/answers", json={"clip": sent.json()["clip"]}).json()["names"]["image"]
        assert told.isprintable()


def test_a_manifest_names_no_files(server, data):
    sent = send(server, f"image,audio\n{data / 'test0.png'},{data / 'test0.wav'}\n".encode(), name="manifest.csv")
    assert sent.status_code == 415


def test_uploads_that_ask_for_what_is_not_there(server, data):
    picture = (data / "test0.png").read_bytes()
    assert send(server, picture, name="a.png", into="nobody's").status_code == 404
    for number in ("99", "9" * 18, "9" * 5000, "²"):
        assert send(server, picture, name="a.png", into=number).status_code == 404
    assert send(server, picture, name="a.png", sense="audio").status_code == 415
    assert send(server, picture, name="a.png", sense="smell").status_code == 422
    nameless = send(server, picture)
    assert nameless.status_code == 400
    assert nameless.json() == {"fault": "this address is not understood: query.name: Field required"}


def test_a_full_disk_is_told(server, data, monkeypatch):
    def full(**_place: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("scmrl.demo.server.tempfile.TemporaryDirectory", full)
    sent = send(server, (data / "test0.png").read_bytes(), name="a.png")
    assert sent.status_code == 503
    assert sent.json()["fault"] == "the server has no place for files: No space left on device"


def test_what_is_too_large_is_cut_off(server):
    for name, status in (("large.png", 413), ("large.zip", 415)):
        assert send(server, bytes(20_000_000), name=name).status_code == status
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 500_000_000:
            sent += 2**16
            yield bytes(2**16)

    try:
        answer = server.client.post("/api/clips", params={"name": "large.png"}, content=endless(), headers=STREAM)
        assert answer.status_code == 413
        assert answer.json()["fault"] == "large.png has more than 0.2 MB, the most that is taken"
    except httpx.TransportError:  # the server closes while this end still sends
        pass
    assert sent < 200_000_000
    assert not list(server.uploads.iterdir())
    assert server.client.get("/api/run").status_code == 200


def test_an_upload_that_breaks_off_leaves_nothing(server):
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port)) as line:
        line.sendall(
            b"POST /api/clips?name=half.png HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: 100000\r\n\r\n" + bytes(50_000)
        )
        wait_until(lambda: any(server.uploads.iterdir()))
    wait_until(lambda: not any(server.uploads.iterdir()))


def test_a_file_that_takes_too_long(run, data):
    with served(run, seconds=1e-4) as server:
        sent = send(server, (data / "test0.png").read_bytes(), name="slow.png")
        assert sent.status_code == 422
        assert sent.json()["fault"].startswith("reading slow.png took more than 0.0001 s; cut it")
        assert not list(server.uploads.iterdir())


def misread(inputs: Inputs, tmp_path: Path, how: str, *, seconds: float) -> Path:
    """Let a reader of that kind loose on a file; the file's folder."""
    image = replace(inputs.modalities["image"], reader=Misbehaving(how=how), prepare=())
    sandbox = Sandbox(replace(inputs, modalities={"image": image}), seconds=seconds)
    try:
        path = sandbox.folder / "upload.png"
        shutil.copy(__file__, path)
        read = sandbox.read(path, "picture.png", ("image",))
        assert not read.found
        raise RefusedError(read.faults["image"])
    finally:
        assert not (sandbox.folder / "left behind").exists() or not (sandbox.folder / "left behind").stat().st_size
        sandbox.close()
        assert not sandbox.folder.exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("hangs", "took more than 2 s"),
        ("spins", "took more than 2 s"),
        ("crashes", "picture.png broke the program that reads it"),
        ("ends", "picture.png broke the program that reads it"),
        ("grows", "more than 2 GB of memory"),
        ("writes", "File too large"),
        ("claims", r"^picture.png is <b>bad</b>\\x1b\[2J$"),
    ],
)
def test_readers_that_misbehave_are_ended(run, tmp_path, how, message):
    with pytest.raises(RefusedError, match=message):
        misread(load_inputs(run), tmp_path, how, seconds=2)
    wait_until(lambda: "98765.25" not in commands())


def test_a_reader_that_cannot_be_started_is_told(run, tmp_path, monkeypatch):
    def fails(_process: object) -> None:
        raise EOFError

    monkeypatch.setattr(ForkServerProcess, "start", fails)
    with pytest.raises(RefusedError, match="could not be started; try again") as refused:
        misread(load_inputs(run), tmp_path, "claims", seconds=60)
    assert refused.value.status == 503


def test_a_reader_that_starts_while_the_demo_stops_is_ended(run, tmp_path, monkeypatch):
    sandboxes: list[Sandbox] = []
    made, start = Sandbox.__init__, ForkServerProcess.start

    def noted(sandbox: Sandbox, inputs: Inputs, *, seconds: float) -> None:
        made(sandbox, inputs, seconds=seconds)
        sandboxes.append(sandbox)

    def start_late(process: ForkServerProcess) -> None:
        closing = threading.Thread(target=sandboxes[0].close)
        closing.start()
        wait_until(lambda: not sandboxes[0]._open)
        closing.join(0.2)  # it found no process to end
        start(process)

    monkeypatch.setattr(Sandbox, "__init__", noted)
    monkeypatch.setattr(ForkServerProcess, "start", start_late)
    with pytest.raises(RefusedError, match="the demo is being stopped"):
        misread(load_inputs(run), tmp_path, "hangs", seconds=20)


def test_the_system_ends_what_computes_too_long():
    code = "from scmrl.demo.limits import limit\nlimit(0.1)\nwhile True: pass"
    ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert ended.returncode == -signal.SIGXCPU


def commands() -> str:
    """The arguments of all that runs here."""
    found = ""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += place.read_text(errors="replace")
        except OSError:
            continue
    return found


def wait_until(true) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
