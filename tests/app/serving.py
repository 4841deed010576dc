"""Serve the page of `scmrl demo` in this process for the tests."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.finished import finished_run
from app.tiny import write_tiny_dataset
from scmrl.commands.demo import listen, page_url
from scmrl.console.progress import Progress
from scmrl.demo.server import create_app, create_server
from scmrl.demo.session import OpenDemo, open_demo


def tiny_run(factory: pytest.TempPathFactory) -> Path:
    """Return a run on images and tones, trained once per session; its data are in the same parent folder."""
    folder = factory.getbasetemp() / "run-for-the-demo"
    if not folder.is_dir():
        (folder / "data").mkdir(parents=True)
        finished_run(write_tiny_dataset(folder / "data", train=40, test=9), folder / "run")
    return folder / "run"


@dataclass
class RunningServer:
    """A server that accepts requests."""

    url: str
    client: httpx.Client
    demo: OpenDemo
    uploads: Path
    """Folder of the uploads while they are decoded."""


@contextmanager
def serve(
    run: Path, *, max_upload: int = 10_000_000, decode_seconds: float = 60.0, token: str | None = None
) -> Generator[RunningServer]:
    """Serve a run on a free port; with a token, requests need it."""
    with listen("127.0.0.1", 0) as listener, Progress.create() as progress:
        demo = open_demo(run, progress)
        app = create_app(demo, host="127.0.0.1", max_upload=max_upload, decode_seconds=decode_seconds, token=token)
        server = create_server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = page_url(listener, "127.0.0.1")
        folder = app.state.sandbox.folder
        try:
            with httpx.Client(base_url=url, timeout=120) as client:
                yield RunningServer(url, client, demo, folder)
        finally:
            server.should_exit = True
            thread.join()
    assert not folder.exists()


def warm_up(server: RunningServer, **headers: str) -> None:
    """Wait until the decoding process has imported its modules, so that a test does not measure that."""
    image = (server.demo.run.parent / "data" / "test0.png").read_bytes()
    headers = {"content-type": "application/octet-stream", **headers}
    for _ in range(5):
        response = server.client.post(
            "/api/clips", params={"name": "a.png"}, content=image, headers=headers, timeout=600
        )
        if response.status_code != 503:  # otherwise it did not start in time
            assert response.status_code == 201, response.text
            return
    raise AssertionError("the decoder did not start")
