"""The page of `scmrl demo`, served in this process for the tests."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.finished import finished_run
from app.tiny import write_tiny_dataset
from scmrl.commands.demo import address, listening
from scmrl.console.progress import Progress
from scmrl.demo.server import create_app, server_of
from scmrl.demo.session import OpenDemo, open_demo


def tiny_run(factory: pytest.TempPathFactory) -> Path:
    """A run on pictures and tones, made once a session; its data lie beside it."""
    folder = factory.getbasetemp() / "run-for-the-demo"
    if not folder.is_dir():
        (folder / "data").mkdir(parents=True)
        finished_run(write_tiny_dataset(folder / "data", train=40, test=9), folder / "run")
    return folder / "run"


@dataclass
class Served:
    """A server that takes requests."""

    url: str
    client: httpx.Client
    demo: OpenDemo
    uploads: Path
    """Where uploads lie while they are read."""


@contextmanager
def served(
    run: Path, *, largest_upload: int = 10_000_000, seconds: float = 60.0, token: str | None = None
) -> Generator[Served]:
    """Serve a run on a free port; with a token, requests need it."""
    with listening("127.0.0.1", 0) as listener, Progress.create() as progress:
        demo = open_demo(run, progress)
        app = create_app(demo, host="127.0.0.1", largest_upload=largest_upload, seconds=seconds, token=token)
        server = server_of(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = address(listener, "127.0.0.1")
        folder = app.state.sandbox.folder
        try:
            with httpx.Client(base_url=url, timeout=120) as client:
                yield Served(url, client, demo, folder)
        finally:
            server.should_exit = True
            thread.join()
    assert not folder.exists()


def warm_up(server: Served, **headers: str) -> None:
    """Wait until the process that reads files has imported what it needs, which is not to be in a test's time."""
    picture = (server.demo.run.parent / "data" / "test0.png").read_bytes()
    sent = {"content-type": "application/octet-stream", **headers}
    for _ in range(5):
        answer = server.client.post("/api/clips", params={"name": "a.png"}, content=picture, headers=sent, timeout=600)
        if answer.status_code != 503:  # it did not start in time
            break
    assert answer.status_code == 201, answer.text
