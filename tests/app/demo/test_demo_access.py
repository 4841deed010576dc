"""Who may use `scmrl demo` where others can reach it, and that nobody keeps it from the others."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from app.serving import Served, served, tiny_run, warm_up
from scmrl.demo import connections, guard
from scmrl.demo import server as server_module

TOKEN = "a-token-of-the-tests-0123456789"
JSON = {"content-type": "application/json"}
SOON = 20.0
"""Seconds that a busy machine may take for what is to take less than two."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory)


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Served]:
    with served(run, largest_upload=1_000_000, token=TOKEN) as server:
        yield server


@pytest.fixture(autouse=True)
def no_cookies(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        request.getfixturevalue("server").client.cookies.clear()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/page.js"),
        ("GET", "/icon.svg"),
        ("GET", "/api/run"),
        ("POST", "/api/answers"),
        ("POST", "/api/explanations"),
        ("POST", "/api/clips?name=a.png"),
        ("GET", "/not/there"),
        ("DELETE", "/api/run"),
    ],
)
def test_nothing_is_told_without_the_token(server, method, path):
    for headers in ({}, {"cookie": "token=x; scmrl-demo-0=x"}, {"authorization": "Bearer wrong"}):
        answer = server.client.request(method, path, headers=JSON | headers)
        assert answer.status_code == 401
        assert "left" not in answer.text
        assert "set-cookie" not in answer.headers
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    for wrong in ("", "wrong", TOKEN[:-1], TOKEN + "x", "\u00e9" * 31):
        assert (
            server.client.request(method, path.partition("?")[0], params={"token": wrong}, headers=JSON).status_code
            == 401
        )


def test_the_first_page_asks_for_the_token(server):
    answer = server.client.get("/")
    assert answer.status_code == 401
    assert "asks for its token" in answer.text
    assert 'name="token"' in answer.text
    assert "form-action 'self'" in answer.headers["content-security-policy"]


def test_the_token_of_the_address_becomes_a_cookie(server):
    answer = server.client.get("/", params={"token": TOKEN})
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    port = httpx.URL(server.url).port
    assert cookie == f"scmrl-demo-{port}={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
    assert server.client.get("/api/run").json()["classes"] == ["left", "right"]
    said = server.client.post("/api/answers", json={"clip": 0})
    assert said.status_code == 200
    assert "set-cookie" not in said.headers


def test_a_program_sends_the_token_in_a_header(server):
    allowed = {"authorization": f"Bearer {TOKEN}"}
    assert server.client.get("/api/run", headers=allowed).status_code == 200
    assert server.client.post("/api/answers", json={"clip": 0}, headers=allowed).status_code == 200


def test_the_token_does_not_lift_what_is_checked_of_other_sites(server):
    allowed = {"authorization": f"Bearer {TOKEN}"}
    for headers, status in (
        ({"host": "rebound.example"}, 421),
        ({"origin": "http://other.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ):
        answer = server.client.post("/api/answers", json={"clip": 0}, headers=allowed | headers)
        assert answer.status_code == status
    assert server.client.get("/", params={"token": TOKEN}, headers={"host": "rebound.example"}).status_code == 421


def test_a_health_probe_needs_no_token_and_learns_nothing(server):
    answer = server.client.get(guard.HEALTH)
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}


def test_half_sent_requests_and_slow_uploads_keep_nobody_out(server):
    picture = (server.demo.run.parent / "data" / "test0.png").read_bytes()
    address = httpx.URL(server.url)
    authorized = b"Host: localhost\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
    upload = (
        b"POST /api/clips?name=slow.png HTTP/1.1\r\n" + authorized + b"Content-Type: application/octet-stream\r\n"
        b"Content-Length: 900000\r\n\r\n" + bytes(1000)
    )
    question = (
        b"POST /api/answers HTTP/1.1\r\n"
        + authorized
        + b"Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{"
    )
    stream = {"content-type": "application/octet-stream"}
    warm_up(server, authorization=f"Bearer {TOKEN}")
    with ExitStack() as opened:
        fifth = opened.enter_context(
            httpx.Client(base_url=server.url, timeout=SOON, headers={"authorization": f"Bearer {TOKEN}"})
        )

        def begin(content: bytes) -> None:
            line = opened.enter_context(socket.create_connection((address.host, address.port), timeout=SOON))
            line.sendall(content)

        for _ in range(300):
            begin(b"GET / HTTP/1.1\r\nHost: lo")
        for _ in range(server_module.UPLOADS + 4):
            begin(upload)
            time.sleep(0.01)
        for _ in range(server_module.QUESTIONS + 4):
            begin(question)
        time.sleep(0.6)  # what has just begun is not judged
        began = time.monotonic()
        assert fifth.post("/api/answers", json={"clip": 0}).status_code == 200
        sent = fifth.post("/api/clips", params={"name": "a.png"}, content=picture, headers=stream)
        assert sent.status_code == 201, sent.text
        print(f"a question and an upload were answered after {time.monotonic() - began:.2f} s")


def test_a_request_head_has_a_deadline(run, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    with served(run) as server:
        address = (httpx.URL(server.url).host, httpx.URL(server.url).port)
        for begun in (b"", b"GET / HTTP/1.1\r\nHost: lo", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT"):
            with socket.create_connection(address, timeout=SOON) as line:
                line.sendall(begun)
                answered = b""
                with suppress(ConnectionResetError):
                    while received := line.recv(4096):
                        answered += received
                assert answered.count(b"200 OK") == begun.count(b"health")

        # One byte after the other does not prolong it.
        with socket.create_connection(address, timeout=SOON) as line:
            stopped = threading.Event()

            def drip() -> None:
                try:
                    while not stopped.wait(0.05):
                        line.sendall(b"G")
                except OSError:
                    pass

            dripping = threading.Thread(target=drip)
            dripping.start()
            try:
                with suppress(ConnectionResetError):
                    assert line.recv(4096) == b""
            finally:
                stopped.set()
                dripping.join()


def test_waiting_connections_are_bounded(run, monkeypatch):
    monkeypatch.setattr(connections, "MOST_WAITING", 3)
    with served(run) as server, ExitStack() as opened:
        address = (httpx.URL(server.url).host, httpx.URL(server.url).port)
        lines = [opened.enter_context(socket.create_connection(address, timeout=SOON)) for _ in range(5)]
        for line in lines[:2]:
            with suppress(ConnectionResetError):
                assert line.recv(1) == b""
        lines[-1].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert lines[-1].recv(4096).startswith(b"HTTP/1.1 200")
