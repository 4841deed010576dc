"""Uploads to `scmrl demo`: valid, damaged and hostile."""

import errno
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import httpx
import pytest

from app.commands.test_predict_command import HOSTILE, ODD, write_video
from app.misbehaving import Misbehaving, Misbehavior
from app.serving import RunningServer, serve, tiny_run
from scmrl.demo.errors import RefusedError
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
def server(run: Path) -> Iterator[RunningServer]:
    with serve(run, max_upload=200_000) as server:
        yield server


def send(server: RunningServer, content: bytes, **query: str) -> httpx.Response:
    return server.client.post("/api/clips", params=query, content=content, headers=STREAM)


def probabilities(server: RunningServer, clip: str | int) -> list[float]:
    return server.client.post("/api/predictions", json={"clip": clip}).json()["probabilities"]


def test_a_video_is_predicted_like_by_the_predict_command(run: Path, server: RunningServer, tmp_path: Path):
    write_video(tmp_path / "clip.mp4")
    response = send(server, (tmp_path / "clip.mp4").read_bytes(), name="clip.mp4")
    assert response.status_code == 201
    assert response.json()["faults"] == {}
    files: dict[str, Path] = dict.fromkeys(("image", "audio"), tmp_path / "clip.mp4")
    (expected,) = predict_clips(open_run(run), [Clip("clip", files)])
    assert probabilities(server, response.json()["clip"]) == pytest.approx(
        list(expected.probabilities.values()), abs=1e-5
    )
    assert not list(server.uploads.iterdir())


def test_files_join_a_clip(server: RunningServer, data: Path):
    def names(clip: str) -> dict[str, str]:
        return server.client.post("/api/predictions", json={"clip": clip}).json()["names"]

    image, tone = ((data / f"test0.{ending}").read_bytes() for ending in ("png", "wav"))
    first = send(server, image, name="a.png").json()["clip"]
    assert names(first) == {"image": "a.png"}
    both = send(server, tone, name="b.wav", into=first).json()["clip"]
    assert names(both) == {"image": "a.png", "audio": "b.wav"}
    assert names(first) == {"image": "a.png"}
    assert probabilities(server, both) == pytest.approx(
        probabilities(server, 0), abs=1e-5
    )  # sample 0 is these two files
    other = send(server, (data / "test1.png").read_bytes(), name="c.png", into=both, modality="image").json()["clip"]
    assert names(other) == {"image": "c.png", "audio": "b.wav"}
    assert probabilities(server, other) != pytest.approx(probabilities(server, both), abs=1e-4)
    mixed = send(server, image, name="d.png", into="1").json()["clip"]
    prediction = server.client.post("/api/predictions", json={"clip": mixed}).json()
    assert prediction["names"]["image"] == "d.png"
    assert prediction["names"]["audio"].startswith("test1")
    assert prediction["label"] is None


def test_a_video_without_sound_provides_images_only(server: RunningServer, tmp_path: Path):
    import av

    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    response = send(server, path.read_bytes(), name="silent.mp4")
    assert response.status_code == 201
    assert list(response.json()["faults"]) == ["audio"]
    assert "silent.mp4 has no sound" in response.json()["faults"]["audio"]


@pytest.mark.parametrize("name", [*HOSTILE, "cut.png"])
def test_unreadable_files_are_reported(server: RunningServer, data: Path, name: str):
    content = HOSTILE[name] if name in HOSTILE else (data / "test0.png").read_bytes()[:150]
    response = send(server, content[:190_000], name=name)
    assert response.status_code == 422
    assert name in response.json()["fault"]
    assert str(server.uploads) not in response.text
    assert not list(server.uploads.iterdir())


@pytest.mark.parametrize("name", ODD)
def test_unusual_sound_headers_are_accepted(server: RunningServer, name: str):
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
        ("image.png/../../manifest.csv", 415),
        ("image.png.", 415),
    ],
)
def test_file_names_are_not_paths(server: RunningServer, data: Path, name: str, status: int):
    response = send(server, (data / "test0.png").read_bytes(), name=name)
    assert response.status_code == status
    assert not list(server.uploads.iterdir())
    if status == 201:
        name = server.client.post("/api/predictions", json={"clip": response.json()["clip"]}).json()["names"]["image"]
        assert name.isprintable()


def test_manifests_are_refused(server: RunningServer, data: Path):
    response = send(server, f"image,audio\n{data / 'test0.png'},{data / 'test0.wav'}\n".encode(), name="manifest.csv")
    assert response.status_code == 415


def test_uploads_for_unknown_clips_and_modalities_are_refused(server: RunningServer, data: Path):
    image = (data / "test0.png").read_bytes()
    assert send(server, image, name="a.png", into="nobody's").status_code == 404
    for number in ("99", "9" * 18, "9" * 5000, "²"):
        assert send(server, image, name="a.png", into=number).status_code == 404
    assert send(server, image, name="a.png", modality="audio").status_code == 415
    assert send(server, image, name="a.png", modality="smell").status_code == 422
    nameless = send(server, image)
    assert nameless.status_code == 400
    assert nameless.json() == {"fault": "invalid address: query.name: Field required"}


def test_a_full_disk_is_reported(server: RunningServer, data: Path, monkeypatch: pytest.MonkeyPatch):
    def full(**_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("scmrl.demo.server.tempfile.TemporaryDirectory", full)
    response = send(server, (data / "test0.png").read_bytes(), name="a.png")
    assert response.status_code == 503
    assert response.json()["fault"] == "the server cannot store the file: No space left on device"


def test_large_uploads_are_refused_early(server: RunningServer):
    for name, status in (("large.png", 413), ("large.zip", 415)):
        assert send(server, bytes(20_000_000), name=name).status_code == status
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 500_000_000:
            sent += 2**16
            yield bytes(2**16)

    try:
        response = server.client.post("/api/clips", params={"name": "large.png"}, content=endless(), headers=STREAM)
        assert response.status_code == 413
        assert response.json()["fault"] == "large.png exceeds the limit of 0.2 MB"
    except httpx.TransportError:  # the server closes the connection while the client sends
        pass
    assert sent < 200_000_000
    assert not list(server.uploads.iterdir())
    assert server.client.get("/api/run").status_code == 200


def test_an_aborted_upload_leaves_no_files(server: RunningServer):
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port)) as connection:
        connection.sendall(
            b"POST /api/clips?name=half.png HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: 100000\r\n\r\n" + bytes(50_000)
        )
        wait_until(lambda: any(server.uploads.iterdir()))
    wait_until(lambda: not any(server.uploads.iterdir()))


def test_decoding_has_a_time_limit(run: Path, data: Path):
    with serve(run, decode_seconds=1e-4) as server:
        response = send(server, (data / "test0.png").read_bytes(), name="slow.png")
        assert response.status_code == 422
        assert response.json()["fault"].startswith("reading slow.png took more than 0.0001 s; cut it")
        assert not list(server.uploads.iterdir())


def decode_with(inputs: Inputs, tmp_path: Path, how: Misbehavior, *, seconds: float) -> Path:
    """Decode a file with a misbehaving reader; raises its fault."""
    image = replace(inputs.modalities["image"], reader=Misbehaving(how=how), cached=())
    sandbox = Sandbox(replace(inputs, modalities={"image": image}), seconds=seconds)
    try:
        path = sandbox.folder / "upload.png"
        shutil.copy(__file__, path)
        decoded = sandbox.decode(path, "image.png", ("image",))
        assert not decoded.inputs
        raise RefusedError(decoded.faults["image"])
    finally:
        assert not (sandbox.folder / "left behind").exists() or not (sandbox.folder / "left behind").stat().st_size
        sandbox.close()
        assert not sandbox.folder.exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("hangs", "took more than 2 s"),
        ("spins", "took more than 2 s"),
        ("crashes", "image.png crashed the decoder"),
        ("ends", "image.png crashed the decoder"),
        ("grows", "more than 2 GB of memory"),
        ("writes", "File too large"),
        ("claims", r"^image.png is <b>bad</b>\\x1b\[2J$"),
    ],
)
def test_misbehaving_decoders_are_killed(run: Path, tmp_path: Path, how: Misbehavior, message: str):
    with pytest.raises(RefusedError, match=message):
        decode_with(load_inputs(run), tmp_path, how, seconds=2)
    wait_until(lambda: "98765.25" not in commands())


def test_a_decoder_that_cannot_be_started_is_reported(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(_process: object) -> None:
        raise EOFError

    monkeypatch.setattr(ForkServerProcess, "start", fails)
    with pytest.raises(RefusedError, match="could not be started; try again") as refused:
        decode_with(load_inputs(run), tmp_path, "claims", seconds=60)
    assert refused.value.status == 503


def test_a_decoder_that_starts_at_shutdown_is_killed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sandboxes: list[Sandbox] = []
    init, start = Sandbox.__init__, ForkServerProcess.start

    def record(sandbox: Sandbox, inputs: Inputs, *, seconds: float) -> None:
        init(sandbox, inputs, seconds=seconds)
        sandboxes.append(sandbox)

    def start_late(process: ForkServerProcess) -> None:
        closing = threading.Thread(target=sandboxes[0].close)
        closing.start()
        wait_until(lambda: not sandboxes[0]._open)
        closing.join(0.2)  # `close` found no process to kill
        start(process)

    monkeypatch.setattr(Sandbox, "__init__", record)
    monkeypatch.setattr(ForkServerProcess, "start", start_late)
    with pytest.raises(RefusedError, match="the demo is being stopped"):
        decode_with(load_inputs(run), tmp_path, "hangs", seconds=20)


def test_the_processor_time_is_limited():
    code = "from scmrl.demo.limits import limit_process\nlimit_process(0.1)\nwhile True: pass"
    process = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert process.returncode == -signal.SIGXCPU


def commands() -> str:
    """Return the command lines of all processes."""
    text = ""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text += path.read_text(errors="replace")
        except OSError:
            continue
    return text


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
