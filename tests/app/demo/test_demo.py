"""`scmrl demo` without a browser: what it answers, whom it answers, and how it starts and ends."""

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

import numpy as np
import pytest
import soundfile
import torch

from app.serving import Served, served, tiny_run
from scmrl.commands.demo import address, demo, is_loopback, listening
from scmrl.demo.clips import KeptClips, ShownClip, endings, senses_of
from scmrl.demo.drawing import frames_of
from scmrl.demo.noise import disturbed
from scmrl.demo.refused import RefusedError
from scmrl.demo.sound import wav
from scmrl.run_folder.files import read_experiment
from scmrl.run_folder.inputs import load_inputs
from snn_datasets import Draw, ModalityInfo
from snn_datasets.base.recordings import Waveform
from snn_datasets.modalities.events import EventsReader
from snn_datasets.modalities.series import SeriesReader
from snn_fusion import from_pretrained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory)


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Served]:
    with served(run) as server:
        yield server


def test_answers_are_the_models(run, server):
    model, sample = from_pretrained(run).eval(), read_experiment(run).data.build().test[3]
    inputs = {name: x[None] for name, x in sample.inputs.items()}
    with torch.no_grad():
        for muted in ([], ["audio"], ["image"]):
            left = {name: x for name, x in inputs.items() if name not in muted}
            answer = server.client.post("/api/answers", json={"clip": 3, "muted": muted}).json()
            torch.testing.assert_close(torch.tensor(answer["probabilities"]), model(left).logits.softmax(1)[0])
            assert answer["label"] == sample.label
            assert answer["names"] == {"image": sample.id, "audio": sample.id}
            assert answer["frames"].keys() == left.keys()


def test_noise_reaches_the_model(run, server):
    model, sample = from_pretrained(run).eval(), read_experiment(run).data.build().test[5]
    clean = sample.inputs["audio"]
    said = {}
    for share in (0.0, 0.5, 1.0):
        drawing = Draw(0, sample.id, "audio", stage="demo").generator()
        noise = torch.randn(clean.shape, generator=drawing)
        noisy = (
            clean.mean() + (1 - share) ** 0.5 * (clean - clean.mean()) + share**0.5 * clean.std(correction=0) * noise
        )
        with torch.no_grad():
            expected = model({"image": sample.inputs["image"][None], "audio": noisy[None]}).logits.softmax(1)[0]
        answer = server.client.post("/api/answers", json={"clip": 5, "noise": {"audio": share}}).json()
        said[share] = torch.tensor(answer["probabilities"])
        torch.testing.assert_close(said[share], expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(said[0.0], said[1.0], atol=1e-4, rtol=0)  # ten times what the two may differ by


def test_explanations_add_up(server):
    question = {"clip": 2, "noise": {"image": 0.2}}
    chances = server.client.post("/api/answers", json=question).json()["probabilities"]
    why = server.client.post("/api/explanations", json=question).json()
    assert sum(why["contribution"].values()) == pytest.approx(max(chances) - 1 / len(chances), abs=1e-6)
    assert {(each["target"], each["source"]) for each in why["residuals"]} == {("image", "audio"), ("audio", "image")}
    assert {len(each["steps"]) for each in why["residuals"]} == {3}  # time steps
    for raster in why["rasters"]:
        spikes = np.frombuffer(base64.b64decode(raster["data"]), np.uint8)
        assert spikes.size == raster["height"] * raster["width"]
        assert set(spikes.tolist()) <= {0, 255}
        assert (spikes > 0).mean() == pytest.approx(raster["rate"])
    for name in ("image", "audio"):
        assert {"occlusion", "attention"} <= {overlay["kind"] for overlay in why["overlays"][name]}
        assert len({overlay["kind"] + overlay["reader"] for overlay in why["overlays"][name]}) == len(
            why["overlays"][name]
        )
    alone = server.client.post("/api/explanations", json={"clip": 2, "muted": ["image"]}).json()
    assert list(alone["contribution"]) == list(alone["overlays"]) == ["audio"]


@pytest.mark.parametrize(
    ("question", "status", "fault"),
    [
        ({"clip": 0, "muted": ["image", "audio"]}, 422, "no sense is left"),
        ({"clip": 0, "muted": ["smell"]}, 422, "no modality 'smell'; it has image, audio"),
        ({"clip": 0, "noise": {"smell": 0.5}}, 422, "no modality 'smell'"),
        ({"clip": 99}, 404, "those from 0 to 8"),
        ({"clip": -1}, 404, "those from 0 to 8"),
        ({"clip": "nobody's"}, 404, "no longer there"),
        ({"clip": 0, "noise": {"image": 1.5}}, 400, "noise.image: Input should be less than or equal to 1"),
        ({"clip": 0, "noise": {"image": None}}, 400, "noise.image"),
        ({"clip": 0, "loud": True}, 400, "loud"),
        ({}, 400, "clip"),
        ([], 400, "not understood"),
    ],
)
def test_questions_that_have_no_answer(server, question, status, fault):
    for path in ("/api/answers", "/api/explanations"):
        answer = server.client.post(path, json=question)
        assert answer.status_code == status
        assert fault in answer.json()["fault"]


@pytest.mark.parametrize(("body", "status"), [(b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[" * 70_000, 413)])
def test_questions_that_are_none(server, body, status):
    answer = server.client.post("/api/answers", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["fault"]


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
        ({"origin": "http://127.0.0.1"}, 403),  # another port is another site
        ({"host": "localhost:80", "origin": "http://localhost:80"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_other_sites_cannot_ask(server, headers, status):
    sent = {"content-type": "application/json"} | headers
    assert server.client.post("/api/answers", content=b'{"clip": 0}', headers=sent).status_code == status


def test_nothing_on_the_page_is_inline_or_from_elsewhere(server):
    names = [file.name for file in importlib.resources.files("scmrl.demo").joinpath("page").iterdir()]
    assert len(names) >= 5
    for name in names:
        answer = server.client.get("/" if name == "index.html" else f"/{name}")
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert not re.search(r"https?://(?!www\.w3\.org)|innerHTML|insertAdjacentHTML|\beval\(", answer.text), name
    page = server.client.get("/").text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=)", page)
    for read in ("/", "/page.css", "/api/run"):
        assert server.client.head(read).status_code == 200
        assert not server.client.head(read).content
    for unknown in ("/docs", "/openapi.json", "/../server.py", "/api"):
        answer = server.client.get(unknown)
        assert answer.status_code == 404
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_is_told_of_the_run(run, server):
    told = server.client.get("/api/run").json()
    assert told["classes"] == ["left", "right"]
    assert told["labels"] == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert [(sense["name"], sense["takes"]) for sense in told["senses"]] == [
        ("image", ["image", "video"]),
        ("audio", ["waveform", "video"]),
    ]
    assert told["largest_upload"] == 10
    assert str(run.parent) not in str(told)


def test_the_sound_of_a_sample_is_served_as_it_was_recorded(run, server):
    answer = server.client.get("/api/sounds", params={"sample": 3, "sense": "audio"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"
    heard, rate = soundfile.read(io.BytesIO(answer.content))
    recorded, expected = soundfile.read(run.parent / "data" / "test3.wav")
    assert rate == expected
    np.testing.assert_allclose(heard, recorded, atol=1e-4)
    for query, status, fault in (
        ({"sample": 3, "sense": "image"}, 404, "no sound for image"),
        ({"sample": 3, "sense": "smell"}, 404, "no modality 'smell'"),
        ({"sample": 99, "sense": "audio"}, 404, "those from 0 to 8"),
        ({"sample": -1, "sense": "audio"}, 404, "those from 0 to 8"),
        ({"sample": "x", "sense": "audio"}, 400, "query.sample"),
        ({"sample": 3}, 400, "query.sense"),
    ):
        refused = server.client.get("/api/sounds", params=query)
        assert refused.status_code == status
        assert fault in refused.json()["fault"]


def test_sounds_are_bounded_and_never_clipped():
    loud = Waveform(np.stack([np.full(8000 * 70, 2.0), np.full(8000 * 70, -4.0)]).astype(np.float32), 8000)
    heard, rate = soundfile.read(io.BytesIO(wav(loud)))
    assert (rate, heard.shape) == (8000, (8000 * 60, 2))
    np.testing.assert_allclose(heard[0], [0.5, -1.0], atol=1e-3)
    four = Waveform(np.full((4, 10), 0.25, np.float32), 16000)
    heard, _ = soundfile.read(io.BytesIO(wav(four)))
    np.testing.assert_allclose(heard, np.full(10, 0.25), atol=1e-3)


def test_noise_keeps_mean_and_strength():
    torch.manual_seed(1)
    value = 3 + 2 * torch.rand(3, 60, 50)
    for share in (0.25, 0.6, 1.0):
        noisy = disturbed(value, share, "image", torch.Generator().manual_seed(4))
        assert float(noisy.mean()) == pytest.approx(float(value.mean()), abs=0.05)
        assert float(noisy.std()) == pytest.approx(float(value.std()), rel=0.05)
        together = np.corrcoef(value.flatten().numpy(), noisy.flatten().numpy())[0, 1]
        assert together**2 == pytest.approx(1 - share, abs=0.05)
    assert disturbed(value, 0.0, "image", torch.Generator()) is value
    assert bool(disturbed(torch.zeros(2, 4), 0.5, "series", torch.Generator()).isfinite().all())


def test_noise_moves_events_but_makes_none():
    counts = torch.poisson(torch.full((5, 2, 20, 30), 0.3))
    noisy = disturbed(counts, 0.4, "events", torch.Generator().manual_seed(4))
    assert set(noisy.unique().tolist()) <= set(counts.unique().tolist())
    assert float(noisy.mean()) == pytest.approx(float(counts.mean()), rel=0.1)
    moved = float((noisy != counts).double().mean())
    other = 1 - float((torch.bincount(counts.flatten().long()) / counts.numel()).square().sum())
    assert moved == pytest.approx(0.4 * other, rel=0.1)


def test_pictures_of_every_kind_of_input():
    def bytes_of(frame):
        data = np.frombuffer(base64.b64decode(frame["data"]), np.uint8)
        return data.reshape(frame["height"], frame["width"], frame["channels"])

    rng = np.random.default_rng(0)
    image = rng.random((3, 4, 5), np.float32)
    (frame,) = frames_of(image, image, ModalityInfo("image", (3, 4, 5)))
    np.testing.assert_array_equal(bytes_of(frame), np.round(255 * image.transpose(1, 2, 0)))
    (dim,) = frames_of(image - 1, image, ModalityInfo("image", (3, 4, 5)))
    assert not bytes_of(dim).any()
    events = rng.poisson(1.0, (6, 2, 4, 5)).astype(np.float32)
    frames = frames_of(events, events, ModalityInfo("events", (2, 4, 5), time_steps=6))
    assert [bytes_of(frame).shape for frame in frames] == [(4, 5, 1)] * 7  # the mean, then each step
    brightest = np.unravel_index(events.sum(1).argmax(), (6, 4, 5))
    assert bytes_of(frames[1 + brightest[0]])[brightest[1:]] == 255
    series = rng.normal(size=(6, 9)).astype(np.float32) * np.arange(1, 10, dtype=np.float32)
    (frame,) = frames_of(series, series, ModalityInfo("series", (9,), time_steps=6))
    assert bytes_of(frame).shape == (9, 6, 1)  # channels down, time across
    assert (bytes_of(frame).max(1) == 255).all()  # each channel on its own scale
    wave = rng.normal(size=(2, 30)).astype(np.float32)
    (frame,) = frames_of(wave, wave, ModalityInfo("waveform", (2, 30)))
    assert bytes_of(frame).shape == (2, 30, 1)
    flat = np.full((1, 4, 5), 7, np.float32)
    (frame,) = frames_of(flat, flat, ModalityInfo("waveform", (1, 4, 5)))
    assert not bytes_of(frame).any()


def test_the_newest_clips_are_kept():
    clips = KeptClips(3)
    tokens = [clips.put(ShownClip({}, label=number)) for number in range(3)]
    assert clips.get(tokens[0]).label == 0  # which makes it the newest
    tokens.append(clips.put(ShownClip({}, label=3)))
    assert len(clips) == 3
    assert len(set(tokens)) == 4
    assert [clips.get(token).label for token in (tokens[0], tokens[2], tokens[3])] == [0, 2, 3]
    with pytest.raises(RefusedError, match="no longer there"):
        clips.get(tokens[1])


def test_files_go_to_the_senses_that_take_them(run):
    one = load_inputs(run).modalities
    assert senses_of("a.PNG", one) == ("image",)
    assert senses_of("a.b.wav", one) == ("audio",)
    assert senses_of("a.mp4", one) == ("image", "audio")
    assert senses_of("a.mp4", one, wanted="audio") == ("audio",)
    assert senses_of("a.mp4", one, there=("image",)) == ("audio",)
    assert senses_of("a.png", one, there=("image",)) == ("image",)
    more = one | {
        "touch": replace(one["image"], reader=EventsReader(height=4, width=4)),
        "imu": replace(one["image"], reader=SeriesReader(rate=100)),
    }
    assert senses_of("a.npy", more) == ("touch",)
    assert senses_of("a.npy", more, wanted="imu") == ("imu",)
    assert senses_of("a.npy", more, kinds=("series",)) == ("imu",)
    assert senses_of("a.npy", more, kinds=("events", "series"), there=("touch",)) == ("touch",)
    assert senses_of("a.npy", one | {"imu": more["imu"]}, kinds=("events", "series")) == ("imu",)
    with pytest.raises(RefusedError, match=r"a\.npy \(events\) is not read here"):
        senses_of("a.npy", one | {"imu": more["imu"]}, kinds=("events",))
    assert ".npy" in endings(more["touch"])
    two = {"left": one["image"], "right": one["image"]}
    assert senses_of("a.png", two) == ("left",)
    assert senses_of("a.png", two, there=("left",)) == ("right",)
    assert senses_of("a.png", two, wanted="right") == ("right",)
    for name, wanted in (("a.exe", None), ("png", None), ("manifest.csv", None), ("a.wav", "image")):
        with pytest.raises(RefusedError, match=r"is not read here, but files that end so are: image: \.png"):
            senses_of(name, one, wanted=wanted)
    with pytest.raises(RefusedError, match="no modality 'smell'"):
        senses_of("a.png", one, wanted="smell")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 65536}, "--port 65536: ports go from 0"),
        ({"port": -1}, "--port -1"),
        ({"host": "no such host"}, "--host no such host: there is no such name or address"),
        ({"max_upload_mb": 0.0}, "--max-upload-mb 0 takes no file at all"),
        ({"decode_seconds": 0.0}, "--decode-seconds 0 is no time"),
        ({"decode_seconds": float("nan")}, "--decode-seconds nan is no time"),
    ],
)
def test_mistakes_end_in_a_line(run, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        demo(run, **options)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="is no run folder"):
        demo(tmp_path)


def test_a_port_that_is_in_use(run):
    with (
        listening("127.0.0.1", 0) as taken,
        pytest.raises(ValueError, match=r"in use\); give another --port, or 0 for a free one"),
    ):
        demo(run, port=taken.getsockname()[1])


def test_without_the_extra(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "scmrl.demo.server")
    with pytest.raises(ImportError, match="extra `demo`, in a clone by `uv sync`"):
        demo(run)


def test_where_it_listens():
    with listening("127.0.0.1", 0) as own, listening("0.0.0.0", 0) as everywhere:
        assert is_loopback(own)
        assert not is_loopback(everywhere)
        assert address(own, "localhost") == f"http://localhost:{own.getsockname()[1]}/"
        assert address(everywhere, "0.0.0.0") == f"http://127.0.0.1:{everywhere.getsockname()[1]}/"
    if socket.has_ipv6:
        with listening("::1", 0) as six:
            assert is_loopback(six)
            assert address(six, "::1") == f"http://[::1]:{six.getsockname()[1]}/"


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_and_leaves_nothing(run, tmp_path, ending):
    code = "import sys, pathlib, scmrl.commands.demo as c; c.demo(pathlib.Path(sys.argv[1]), port=0, host='0.0.0.0')"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(run)],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as of a terminal, whose keys reach every process that was started
        # Whoever runs the tests under nohup ignores SIGHUP, and the demo would respect that.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        printed = process.stdout.readline().split()[0]
        url, _, token = printed.partition("?token=")
        assert len(token) >= 32
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}api/run")
        with urllib.request.urlopen(f"{url}api/run?token={token}") as answer:
            assert b'"left"' in answer.read()
        assert process.stdout.readline().startswith("ready after ")
        with socket.create_connection(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))) as line:
            line.sendall(
                b"POST /api/clips?name=half.png HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
                b"Content-Type: application/octet-stream\r\nAuthorization: Bearer "
                + token.encode()
                + b"\r\n\r\n"
                + bytes(50_000)
            )
            while not list(tmp_path.glob("scmrl-demo-*/*/upload.png")):
                time.sleep(0.05)
            os.killpg(process.pid, ending)
            _, told = process.communicate(timeout=60)
            parted = line.makefile("rb").read()
            assert b"the demo is being stopped" in parted
            assert b"content-security-policy: default-src 'none'" in parted
    finally:
        process.kill()
    assert process.returncode == 0
    assert told.splitlines() == [
        f"scmrl: warning: everyone who reaches {url} and has its token can use this page, and nothing they send is "
        "encrypted",
        "ERROR:    Cancel 1 running task(s), timeout graceful shutdown exceeded",
    ]
    assert not list(tmp_path.iterdir())
