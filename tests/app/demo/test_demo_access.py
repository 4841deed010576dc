"""Access to a `scmrl demo` that other machines can reach: tokens, deadlines and limits."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from app.serving import RunningServer, serve, tiny_run, warm_up
from scmrl.demo import connections, guard
from scmrl.demo import server as server_module

TOKEN = "a-token-of-the-tests-0123456789"
JSON = {"content-type": "application/json"}
TIMEOUT = 20.0
"""Seconds on a busy machine for what takes less than two."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory)


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[RunningServer]:
    with serve(run, max_upload=1_000_000, token=TOKEN) as server:
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
        ("POST", "/api/predictions"),
        ("POST", "/api/explanations"),
        ("POST", "/api/clips?name=a.png"),
        ("GET", "/not/there"),
        ("DELETE", "/api/run"),
    ],
)
def test_requests_without_the_token_reveal_nothing(server: RunningServer, method: str, path: str):
    for headers in ({}, {"cookie": "token=x; scmrl-demo-0=x"}, {"authorization": "Bearer wrong"}):
        response = server.client.request(method, path, headers=JSON | headers)
        assert response.status_code == 401
        assert "left" not in response.text
        assert "set-cookie" not in response.headers
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
    for wrong in ("", "wrong", TOKEN[:-1], TOKEN + "x", "\u00e9" * 31):
        assert (
            server.client.request(method, path.partition("?")[0], params={"token": wrong}, headers=JSON).status_code
            == 401
        )


def test_the_start_page_requests_the_token(server: RunningServer):
    response = server.client.get("/")
    assert response.status_code == 401
    assert "needs a token" in response.text
    assert 'name="token"' in response.text
    assert "form-action 'self'" in response.headers["content-security-policy"]


def test_the_token_in_the_address_sets_a_cookie(server: RunningServer):
    response = server.client.get("/", params={"token": TOKEN})
    assert response.status_code == 200
    cookie = response.headers["set-cookie"]
    port = httpx.URL(server.url).port
    assert cookie == f"scmrl-demo-{port}={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
    assert server.client.get("/api/run").json()["classes"] == ["left", "right"]
    prediction = server.client.post("/api/predictions", json={"clip": 0})
    assert prediction.status_code == 200
    assert "set-cookie" not in prediction.headers


def test_a_program_sends_the_token_in_a_header(server: RunningServer):
    allowed = {"authorization": f"Bearer {TOKEN}"}
    assert server.client.get("/api/run", headers=allowed).status_code == 200
    assert server.client.post("/api/predictions", json={"clip": 0}, headers=allowed).status_code == 200


def test_the_token_does_not_replace_the_checks_of_other_sites(server: RunningServer):
    allowed = {"authorization": f"Bearer {TOKEN}"}
    for headers, status in (
        ({"host": "rebound.example"}, 421),
        ({"origin": "http://other.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ):
        response = server.client.post("/api/predictions", json={"clip": 0}, headers=allowed | headers)
        assert response.status_code == status
    assert server.client.get("/", params={"token": TOKEN}, headers={"host": "rebound.example"}).status_code == 421


def test_a_health_check_needs_no_token_and_reveals_nothing(server: RunningServer):
    response = server.client.get(guard.HEALTH)
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


def test_incomplete_requests_and_slow_uploads_block_no_others(server: RunningServer):
    image = (server.demo.run.parent / "data" / "test0.png").read_bytes()
    address = httpx.URL(server.url)
    authorized = b"Host: localhost\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
    upload = (
        b"POST /api/clips?name=slow.png HTTP/1.1\r\n" + authorized + b"Content-Type: application/octet-stream\r\n"
        b"Content-Length: 900000\r\n\r\n" + bytes(1000)
    )
    query = (
        b"POST /api/predictions HTTP/1.1\r\n"
        + authorized
        + b"Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{"
    )
    stream = {"content-type": "application/octet-stream"}
    warm_up(server, authorization=f"Bearer {TOKEN}")
    with ExitStack() as opened:
        client = opened.enter_context(
            httpx.Client(base_url=server.url, timeout=TIMEOUT, headers={"authorization": f"Bearer {TOKEN}"})
        )

        def begin(content: bytes) -> None:
            connection = opened.enter_context(socket.create_connection((address.host, address.port), timeout=TIMEOUT))
            connection.sendall(content)

        for _ in range(300):
            begin(b"GET / HTTP/1.1\r\nHost: lo")
        for _ in range(server_module.UPLOADS + 4):
            begin(upload)
            time.sleep(0.01)
        for _ in range(server_module.QUERIES + 4):
            begin(query)
        time.sleep(0.6)  # the rate of new requests is not measured
        start = time.monotonic()
        assert client.post("/api/predictions", json={"clip": 0}).status_code == 200
        response = client.post("/api/clips", params={"name": "a.png"}, content=image, headers=stream)
        assert response.status_code == 201, response.text
        print(f"a query and an upload were processed after {time.monotonic() - start:.2f} s")


def test_a_request_head_has_a_deadline(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    with serve(run) as server:
        address = (httpx.URL(server.url).host, httpx.URL(server.url).port)
        for start in (b"", b"GET / HTTP/1.1\r\nHost: lo", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT"):
            with socket.create_connection(address, timeout=TIMEOUT) as connection:
                connection.sendall(start)
                received = b""
                with suppress(ConnectionResetError):
                    while chunk := connection.recv(4096):
                        received += chunk
                assert received.count(b"200 OK") == start.count(b"health")

        # Single bytes do not extend the deadline.
        with socket.create_connection(address, timeout=TIMEOUT) as connection:
            stopped = threading.Event()

            def drip() -> None:
                try:
                    while not stopped.wait(0.05):
                        connection.sendall(b"G")
                except OSError:
                    pass

            thread = threading.Thread(target=drip)
            thread.start()
            try:
                with suppress(ConnectionResetError):
                    assert connection.recv(4096) == b""
            finally:
                stopped.set()
                thread.join()


def test_waiting_connections_are_limited(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "MAX_WAITING", 3)
    with serve(run) as server, ExitStack() as opened:
        address = (httpx.URL(server.url).host, httpx.URL(server.url).port)
        connected = [opened.enter_context(socket.create_connection(address, timeout=TIMEOUT)) for _ in range(5)]
        for connection in connected[:2]:
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        connected[-1].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connected[-1].recv(4096).startswith(b"HTTP/1.1 200")
