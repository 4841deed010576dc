"""`scmrl demo` without a browser: its responses, whom it refuses, and how it starts and stops."""

import base64
import importlib.resources
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from app.serving import RunningServer, serve, tiny_run
from scmrl.commands.demo import demo, is_loopback, listen, page_url
from scmrl.demo.clips import ClipStore, DemoClip, file_endings, modalities_for_file
from scmrl.demo.encoding import encode_frames
from scmrl.demo.errors import RefusedError
from scmrl.demo.sound import encode_wav
from scmrl.run_folder.files import read_experiment
from scmrl.run_folder.inputs import load_inputs
from snn_datasets import Draw, ModalityInfo
from snn_datasets.base.recordings import Waveform
from snn_datasets.modalities.events import EventsReader
from snn_datasets.modalities.series import SeriesReader
from snn_datasets.stages.noise import mix_with_noise
from snn_fusion import from_pretrained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory)


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[RunningServer]:
    with serve(run) as server:
        yield server


def test_predictions_are_those_of_the_model(run: Path, server: RunningServer):
    model, sample = from_pretrained(run).eval(), read_experiment(run).data.build().test[3]
    inputs = {name: x[None] for name, x in sample.inputs.items()}
    with torch.no_grad():
        for muted in ([], ["audio"], ["image"]):
            remaining = {name: x for name, x in inputs.items() if name not in muted}
            response = server.client.post("/api/predictions", json={"clip": 3, "muted": muted}).json()
            torch.testing.assert_close(torch.tensor(response["probabilities"]), model(remaining).logits.softmax(1)[0])
            assert response["label"] == sample.label
            assert response["names"] == {"image": sample.id, "audio": sample.id}
            assert response["frames"].keys() == remaining.keys()


def test_noise_reaches_the_model(run: Path, server: RunningServer):
    model, sample = from_pretrained(run).eval(), read_experiment(run).data.build().test[5]
    clean = sample.inputs["audio"]
    predicted = {}
    for share in (0.0, 0.5, 1.0):
        generator = Draw(0, sample.id, "audio", stage="demo").generator()
        noise = torch.randn(clean.shape, generator=generator)
        noisy = (
            clean.mean() + (1 - share) ** 0.5 * (clean - clean.mean()) + share**0.5 * clean.std(correction=0) * noise
        )
        with torch.no_grad():
            expected = model({"image": sample.inputs["image"][None], "audio": noisy[None]}).logits.softmax(1)[0]
        response = server.client.post("/api/predictions", json={"clip": 5, "noise": {"audio": share}}).json()
        predicted[share] = torch.tensor(response["probabilities"])
        torch.testing.assert_close(predicted[share], expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(predicted[0.0], predicted[1.0], atol=1e-4, rtol=0)  # ten times the tolerance


def test_explanations_add_up(server: RunningServer):
    query = {"clip": 2, "noise": {"image": 0.2}}
    probabilities = server.client.post("/api/predictions", json=query).json()["probabilities"]
    explanation = server.client.post("/api/explanations", json=query).json()
    assert sum(explanation["contributions"].values()) == pytest.approx(
        max(probabilities) - 1 / len(probabilities), abs=1e-6
    )
    assert {(each["target"], each["source"]) for each in explanation["residuals"]} == {
        ("image", "audio"),
        ("audio", "image"),
    }
    assert {len(each["steps"]) for each in explanation["residuals"]} == {3}  # time steps
    for raster in explanation["rasters"]:
        spikes = np.frombuffer(base64.b64decode(raster["data"]), np.uint8)
        assert spikes.size == raster["height"] * raster["width"]
        assert set(spikes.tolist()) <= {0, 255}
        assert (spikes > 0).mean() == pytest.approx(raster["rate"])
    for name in ("image", "audio"):
        assert {"occlusion", "attention"} <= {overlay["kind"] for overlay in explanation["overlays"][name]}
        assert len({overlay["kind"] + overlay["target"] for overlay in explanation["overlays"][name]}) == len(
            explanation["overlays"][name]
        )
    single = server.client.post("/api/explanations", json={"clip": 2, "muted": ["image"]}).json()
    assert list(single["contributions"]) == list(single["overlays"]) == ["audio"]


@pytest.mark.parametrize(
    ("query", "status", "fault"),
    [
        ({"clip": 0, "muted": ["image", "audio"]}, 422, "no modality is left"),
        ({"clip": 0, "muted": ["smell"]}, 422, "no modality 'smell'; it has image, audio"),
        ({"clip": 0, "noise": {"smell": 0.5}}, 422, "no modality 'smell'"),
        ({"clip": 99}, 404, "samples 0 to 8"),
        ({"clip": -1}, 404, "samples 0 to 8"),
        ({"clip": "nobody's"}, 404, "no longer stored"),
        ({"clip": 0, "noise": {"image": 1.5}}, 400, "noise.image: Input should be less than or equal to 1"),
        ({"clip": 0, "noise": {"image": None}}, 400, "noise.image"),
        ({"clip": 0, "loud": True}, 400, "loud"),
        ({}, 400, "clip"),
        ([], 400, "invalid query"),
    ],
)
def test_invalid_queries_are_refused(server: RunningServer, query: object, status: int, fault: str):
    for path in ("/api/predictions", "/api/explanations"):
        response = server.client.post(path, json=query)
        assert response.status_code == status
        assert fault in response.json()["fault"]


@pytest.mark.parametrize(("body", "status"), [(b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[" * 70_000, 413)])
def test_malformed_queries_are_refused(server: RunningServer, body: bytes, status: int):
    response = server.client.post("/api/predictions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == status
    assert response.json()["fault"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "[::1]:7860"}, 200),
        ({"host": "192.168.1.20:7860"}, 200),
        ({"host": "rebound.example:7860"}, 421),
        ({"host": "127.0.0.1.rebound.example"}, 421),
        ({"host": "localhost.rebound.example"}, 421),
        ({"host": ""}, 421),
        ({"origin": "http://other.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1"}, 403),  # another port is another origin
        ({"host": "localhost:80", "origin": "http://localhost:80"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_other_sites_are_refused(server: RunningServer, headers: dict[str, Any] | dict[str, str], status: int):
    headers = {"content-type": "application/json"} | headers
    assert server.client.post("/api/predictions", content=b'{"clip": 0}', headers=headers).status_code == status


def test_the_page_has_no_inline_or_external_resources(server: RunningServer):
    names = [file.name for file in importlib.resources.files("scmrl.demo").joinpath("page").iterdir()]
    assert len(names) >= 5
    for name in names:
        response = server.client.get("/" if name == "index.html" else f"/{name}")
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in response.headers
        assert not re.search(r"https?://(?!www\.w3\.org)|innerHTML|insertAdjacentHTML|\beval\(", response.text), name
    page = server.client.get("/").text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=)", page)
    for path in ("/", "/page.css", "/api/run"):
        assert server.client.head(path).status_code == 200
        assert not server.client.head(path).content
    for unknown in ("/docs", "/openapi.json", "/../server.py", "/api"):
        response = server.client.get(unknown)
        assert response.status_code == 404
        assert response.headers["x-content-type-options"] == "nosniff"


def test_the_run_is_described(run: Path, server: RunningServer):
    content = server.client.get("/api/run").json()
    assert content["classes"] == ["left", "right"]
    assert content["labels"] == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert [(modality["name"], modality["accepts"]) for modality in content["modalities"]] == [
        ("image", ["image", "video"]),
        ("audio", ["waveform", "video"]),
    ]
    assert content["max_upload"] == 10
    assert str(run.parent) not in str(content)


def test_the_recorded_sound_of_a_sample_is_served(run: Path, server: RunningServer):
    response = server.client.get("/api/sounds", params={"sample": 3, "modality": "audio"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "audio/wav"
    decoded, rate = soundfile.read(io.BytesIO(response.content))
    recorded, expected = soundfile.read(run.parent / "data" / "test3.wav")
    assert rate == expected
    np.testing.assert_allclose(decoded, recorded, atol=1e-4)
    for query, status, fault in (
        ({"sample": 3, "modality": "image"}, 404, "no sound for image"),
        ({"sample": 3, "modality": "smell"}, 404, "no modality 'smell'"),
        ({"sample": 99, "modality": "audio"}, 404, "samples 0 to 8"),
        ({"sample": -1, "modality": "audio"}, 404, "samples 0 to 8"),
        ({"sample": "x", "modality": "audio"}, 400, "query.sample"),
        ({"sample": 3}, 400, "query.modality"),
    ):
        refused = server.client.get("/api/sounds", params=query)
        assert refused.status_code == status
        assert fault in refused.json()["fault"]


def test_sounds_are_limited_and_never_clipped():
    loud = Waveform(np.stack([np.full(8000 * 70, 2.0), np.full(8000 * 70, -4.0)]).astype(np.float32), 8000)
    decoded, rate = soundfile.read(io.BytesIO(encode_wav(loud)))
    assert (rate, decoded.shape) == (8000, (8000 * 60, 2))
    np.testing.assert_allclose(decoded[0], [0.5, -1.0], atol=1e-3)
    four = Waveform(np.full((4, 10), 0.25, np.float32), 16000)
    decoded, _ = soundfile.read(io.BytesIO(encode_wav(four)))
    np.testing.assert_allclose(decoded, np.full(10, 0.25), atol=1e-3)


def test_noise_preserves_mean_and_variance():
    torch.manual_seed(1)
    value = 3 + 2 * torch.rand(3, 60, 50)
    for share in (0.25, 0.6, 1.0):
        noisy = mix_with_noise(value, share, "image", torch.Generator().manual_seed(4))
        assert float(noisy.mean()) == pytest.approx(float(value.mean()), abs=0.05)
        assert float(noisy.std()) == pytest.approx(float(value.std()), rel=0.05)
        correlation = np.corrcoef(value.flatten().numpy(), noisy.flatten().numpy())[0, 1]
        assert correlation**2 == pytest.approx(1 - share, abs=0.05)
    assert mix_with_noise(value, 0.0, "image", torch.Generator()) is value
    assert bool(mix_with_noise(torch.zeros(2, 4), 0.5, "series", torch.Generator()).isfinite().all())


def test_noise_moves_events_and_creates_none():
    counts = torch.poisson(torch.full((5, 2, 20, 30), 0.3))
    noisy = mix_with_noise(counts, 0.4, "events", torch.Generator().manual_seed(4))
    assert set(noisy.unique().tolist()) <= set(counts.unique().tolist())
    assert float(noisy.mean()) == pytest.approx(float(counts.mean()), rel=0.1)
    moved = float((noisy != counts).double().mean())
    other = 1 - float((torch.bincount(counts.flatten().long()) / counts.numel()).square().sum())
    assert moved == pytest.approx(0.4 * other, rel=0.1)


def test_inputs_of_every_kind_become_images():
    def bytes_of(frame: dict[str, Any]) -> np.ndarray:
        data = np.frombuffer(base64.b64decode(frame["data"]), np.uint8)
        return data.reshape(frame["height"], frame["width"], frame["channels"])

    rng = np.random.default_rng(0)
    image = rng.random((3, 4, 5), np.float32)
    (frame,) = encode_frames(image, image, ModalityInfo("image", (3, 4, 5)))
    np.testing.assert_array_equal(bytes_of(frame), np.round(255 * image.transpose(1, 2, 0)))
    (dark,) = encode_frames(image - 1, image, ModalityInfo("image", (3, 4, 5)))
    assert not bytes_of(dark).any()
    events = rng.poisson(1.0, (6, 2, 4, 5)).astype(np.float32)
    frames = encode_frames(events, events, ModalityInfo("events", (2, 4, 5), time_steps=6))
    assert [bytes_of(frame).shape for frame in frames] == [(4, 5, 1)] * 7  # the mean, then each step
    brightest = np.unravel_index(events.sum(1).argmax(), (6, 4, 5))
    assert bytes_of(frames[1 + brightest[0]])[brightest[1:]] == 255
    series = rng.normal(size=(6, 9)).astype(np.float32) * np.arange(1, 10, dtype=np.float32)
    (frame,) = encode_frames(series, series, ModalityInfo("series", (9,), time_steps=6))
    assert bytes_of(frame).shape == (9, 6, 1)  # channels down, time across
    assert (bytes_of(frame).max(1) == 255).all()  # each channel has its own scale
    wave = rng.normal(size=(2, 30)).astype(np.float32)
    (frame,) = encode_frames(wave, wave, ModalityInfo("waveform", (2, 30)))
    assert bytes_of(frame).shape == (2, 30, 1)
    flat = np.full((1, 4, 5), 7, np.float32)
    (frame,) = encode_frames(flat, flat, ModalityInfo("waveform", (1, 4, 5)))
    assert not bytes_of(frame).any()


def test_the_most_recently_used_clips_are_stored():
    clips = ClipStore(3)
    tokens = [clips.put(DemoClip({}, label=number)) for number in range(3)]
    assert clips.get(tokens[0]).label == 0  # now the most recently used
    tokens.append(clips.put(DemoClip({}, label=3)))
    assert len(clips) == 3
    assert len(set(tokens)) == 4
    assert [clips.get(token).label for token in (tokens[0], tokens[2], tokens[3])] == [0, 2, 3]
    with pytest.raises(RefusedError, match="no longer stored"):
        clips.get(tokens[1])


def test_files_are_decoded_for_the_modalities_that_accept_them(run: Path):
    one = load_inputs(run).modalities
    assert modalities_for_file("a.PNG", one) == ("image",)
    assert modalities_for_file("a.b.wav", one) == ("audio",)
    assert modalities_for_file("a.mp4", one) == ("image", "audio")
    assert modalities_for_file("a.mp4", one, requested="audio") == ("audio",)
    assert modalities_for_file("a.mp4", one, present=("image",)) == ("audio",)
    assert modalities_for_file("a.png", one, present=("image",)) == ("image",)
    more = one | {
        "touch": replace(one["image"], reader=EventsReader(height=4, width=4)),
        "imu": replace(one["image"], reader=SeriesReader(rate=100)),
    }
    assert modalities_for_file("a.npy", more) == ("touch",)
    assert modalities_for_file("a.npy", more, requested="imu") == ("imu",)
    assert modalities_for_file("a.npy", more, kinds=("series",)) == ("imu",)
    assert modalities_for_file("a.npy", more, kinds=("events", "series"), present=("touch",)) == ("touch",)
    assert modalities_for_file("a.npy", one | {"imu": more["imu"]}, kinds=("events", "series")) == ("imu",)
    with pytest.raises(RefusedError, match=r"a\.npy \(events\) is not supported"):
        modalities_for_file("a.npy", one | {"imu": more["imu"]}, kinds=("events",))
    assert ".npy" in file_endings(more["touch"])
    two = {"left": one["image"], "right": one["image"]}
    assert modalities_for_file("a.png", two) == ("left",)
    assert modalities_for_file("a.png", two, present=("left",)) == ("right",)
    assert modalities_for_file("a.png", two, requested="right") == ("right",)
    for name, requested in (("a.exe", None), ("png", None), ("manifest.csv", None), ("a.wav", "image")):
        with pytest.raises(RefusedError, match=r"is not supported; supported files: image: \.png"):
            modalities_for_file(name, one, requested=requested)
    with pytest.raises(RefusedError, match="no modality 'smell'"):
        modalities_for_file("a.png", one, requested="smell")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 65536}, "--port 65536: ports range from 0"),
        ({"port": -1}, "--port -1"),
        ({"host": "no such host"}, "--host no such host: there is no such name or address"),
        ({"max_upload_mb": 0.0}, "--max-upload-mb 0 allows no upload"),
        ({"decode_seconds": 0.0}, "--decode-seconds 0 is out of range"),
        ({"decode_seconds": float("nan")}, "--decode-seconds nan is out of range"),
    ],
)
def test_errors_are_one_line(run: Path, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        demo(run, **options)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="is not a run folder"):
        demo(tmp_path)


def test_a_port_in_use_is_refused(run: Path):
    with (
        listen("127.0.0.1", 0) as other,
        pytest.raises(ValueError, match=r"in use\); give another --port, or 0 for a free one"),
    ):
        demo(run, port=other.getsockname()[1])


def test_the_missing_extra_is_named(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "scmrl.demo.server")
    with pytest.raises(ImportError, match="extra `demo`, in a clone by `uv sync`"):
        demo(run)


def test_the_url_and_scope_of_the_listener():
    with listen("127.0.0.1", 0) as local, listen("0.0.0.0", 0) as everywhere:
        assert is_loopback(local)
        assert not is_loopback(everywhere)
        assert page_url(local, "localhost") == f"http://localhost:{local.getsockname()[1]}/"
        assert page_url(everywhere, "0.0.0.0") == f"http://127.0.0.1:{everywhere.getsockname()[1]}/"
    if socket.has_ipv6:
        with listen("::1", 0) as six:
            assert is_loopback(six)
            assert page_url(six, "::1") == f"http://[::1]:{six.getsockname()[1]}/"


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_and_deletes_its_files(run: Path, tmp_path: Path, ending: signal.Signals):
    code = "import sys, pathlib, scmrl.commands.demo as c; c.demo(pathlib.Path(sys.argv[1]), port=0, host='0.0.0.0')"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(run)],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # like a terminal, whose signals reach every process
        # Under nohup SIGHUP is ignored, and the demo would ignore it, too.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[0]
        url, _, token = address.partition("?token=")
        assert len(token) >= 32
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}api/run")
        with urllib.request.urlopen(f"{url}api/run?token={token}") as response:
            assert b'"left"' in response.read()
        assert process.stdout.readline().startswith("ready after ")
        with socket.create_connection(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))) as connection:
            connection.sendall(
                b"POST /api/clips?name=half.png HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
                b"Content-Type: application/octet-stream\r\nAuthorization: Bearer "
                + token.encode()
                + b"\r\n\r\n"
                + bytes(50_000)
            )
            while not list(tmp_path.glob("scmrl-demo-*/*/upload.png")):
                time.sleep(0.05)
            os.killpg(process.pid, ending)
            _, stderr = process.communicate(timeout=60)
            response = connection.makefile("rb").read()
            assert b"the demo is being stopped" in response
            assert b"content-security-policy: default-src 'none'" in response
    finally:
        process.kill()
    assert process.returncode == 0
    assert stderr.splitlines() == [
        f"scmrl: warning: everyone who can reach {url} and has its token can use this page; the connection is not "
        "encrypted",
        "ERROR:    Cancel 1 running task(s), timeout graceful shutdown exceeded",
    ]
    assert not list(tmp_path.iterdir())
