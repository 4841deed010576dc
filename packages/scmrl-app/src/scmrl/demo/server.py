"""The web server of the demo: the page, its API and uploads."""

from __future__ import annotations

import asyncio
import io
import re
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scmrl.console.printable import printable
from scmrl.demo.clips import ClipStore, DemoClip, modalities_for_file
from scmrl.demo.connections import LimitedProtocol
from scmrl.demo.errors import RefusedError
from scmrl.demo.guard import Guard
from scmrl.demo.intake import Intake
from scmrl.demo.sandbox import Sandbox
from scmrl.demo.session import OpenDemo
from snn_datasets.base.kinds import kinds_by_name
from snn_datasets.formats.contents import kinds_of
from snn_fusion.specs.explain import error_lines

MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Of the files in the folder `page`."""
MAX_QUERY = 2**16
"""Size limit of a model query in bytes; the longest has a few hundred."""
QUERY_SECONDS = 5.0
"""Time limit for receiving a query."""
UPLOAD_SECONDS = 120.0
"""Time limit for receiving an upload."""
QUERIES, UPLOADS = 32, 8
"""Queries and uploads that are received concurrently; beyond, the slowest is evicted."""
DRAIN_BYTES = 2**26
DRAIN_SECONDS = 2.0
"""Limits for discarding the rest of a refused request."""
SHUTDOWN_SECONDS = 3
"""Time for running requests when the server stops."""
DECODE_QUEUE = 4
"""Uploads that may wait for decoding; further ones are refused."""
PREDICTIONS = 4
"""Concurrent predictions; further ones wait without occupying a thread."""
EXPLANATION_QUEUE = 16
"""Explanations that may wait; further ones are refused."""

READ = ["GET", "HEAD"]
NUMBER = re.compile("[0-9]{1,18}")
"""A sample number, as opposed to a token; limited because Python refuses to parse very long numbers."""

Share = Annotated[float, Field(ge=0, le=1)]


class Query(BaseModel):
    """A request for a prediction or an explanation."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    clip: str | int
    """The token of an upload, or the number of a sample."""
    muted: list[str] = []
    """Modalities to remove."""
    noise: dict[str, Share] = {}
    """By modality, the share of noise."""


def create_app(
    demo: OpenDemo, *, host: str, max_upload: int, decode_seconds: float, token: str | None = None
) -> FastAPI:
    """Create the web application.

    Args:
        demo: the run.
        host: name or address of the server.
        max_upload: size limit of uploads in bytes.
        decode_seconds: time limit for decoding an upload.
        token: required of requests; None: no token is required.
    """
    clips = ClipStore()
    sandbox = Sandbox(demo.inputs, seconds=decode_seconds) if demo.inputs is not None else None
    decode_queue = asyncio.Semaphore(DECODE_QUEUE)
    predictions = asyncio.Semaphore(PREDICTIONS)
    explanation_queue, explanation_lock = asyncio.Semaphore(EXPLANATION_QUEUE), asyncio.Lock()
    queries = Intake(QUERIES, seconds=QUERY_SECONDS)
    uploads = Intake(UPLOADS, seconds=UPLOAD_SECONDS)

    @asynccontextmanager
    async def close_sandbox(_app: FastAPI) -> AsyncGenerator[None]:
        yield
        if sandbox is not None:
            sandbox.close()

    # FastAPI's documentation pages load scripts from elsewhere.
    app = FastAPI(title="scmrl demo", lifespan=close_sandbox, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(ShutdownResponder)
    app.add_middleware(Guard, host=host, token=token)
    app.state.sandbox = sandbox

    async def handle_error(request: Request, error: Exception) -> Response:
        if isinstance(error, RequestValidationError):
            error = RefusedError(f"invalid address: {error_lines(error.errors())[0]}", 400)
        if isinstance(error, HTTPException):
            return JSONResponse({"fault": error.detail}, error.status_code)
        assert isinstance(error, RefusedError)
        await _drain(request)
        return JSONResponse({"fault": str(error)}, error.status, {"Connection": "close"})

    app.add_exception_handler(RefusedError, handle_error)
    app.add_exception_handler(HTTPException, handle_error)
    app.add_exception_handler(RequestValidationError, handle_error)

    for file in files("scmrl.demo").joinpath("page").iterdir():
        path = "/" if file.name == "index.html" else f"/{file.name}"
        media_type = MEDIA_TYPES[PurePath(file.name).suffix]
        app.add_api_route(path, _static(file.read_bytes(), media_type), methods=READ)

    def clip_of(key: str | int) -> DemoClip:
        return demo.sample(key) if isinstance(key, int) else clips.get(key)

    @app.api_route("/api/run", methods=READ)
    def run() -> dict[str, Any]:
        return demo.describe(max_upload / 1e6)

    @app.api_route("/api/sounds", methods=READ)
    def sound(sample: int, modality: str) -> Response:
        return Response(demo.sound(sample, modality), media_type="audio/wav")

    async def receive_query(request: Request) -> Query:
        body = io.BytesIO()
        await queries.receive(request, body, MAX_QUERY, "the query")
        return _parse_query(body.getvalue())

    async def respond(query: Query, compute: Callable[..., dict[str, Any]]) -> Response:
        def run() -> Response:
            return JSONResponse(compute(clip_of(query.clip), frozenset(query.muted), query.noise))

        return await run_in_threadpool(run)

    @app.post("/api/predictions")
    async def predict(request: Request) -> Response:
        query = await receive_query(request)
        async with predictions:
            return await respond(query, demo.predict)

    @app.post("/api/explanations")
    async def explain(request: Request) -> Response:
        query = await receive_query(request)
        if explanation_queue.locked():
            raise RefusedError("too many explanations at once; try again in a moment", 503)
        async with explanation_queue, explanation_lock:
            return await respond(query, demo.explain)

    @app.post("/api/clips")
    async def upload(request: Request, name: str, modality: str | None = None, into: str | None = None) -> Response:
        if sandbox is None or demo.inputs is None:
            raise RefusedError(demo.no_files, 404)
        clip = DemoClip({}) if into is None else clip_of(int(into) if NUMBER.fullmatch(into) else into)
        accepting = demo.inputs.modalities
        modalities = modalities_for_file(name, accepting, requested=modality, present=clip.inputs)
        try:
            with tempfile.TemporaryDirectory(dir=sandbox.folder) as folder:
                # Only the file name extension is used, and it is a known one.
                path = Path(folder, "upload" + PurePath(name).suffix.lower())
                with path.open("wb") as file:
                    await uploads.receive(request, file, max_upload, printable(name))
                if len(kinds_by_name(name)) > 1:
                    # The name alone does not determine what the file holds.
                    modalities = modalities_for_file(
                        name, accepting, requested=modality, present=clip.inputs, kinds=kinds_of(path)
                    )
                if decode_queue.locked():
                    raise RefusedError("too many uploads at once; try again in a moment", 503)
                async with decode_queue:
                    decoded = await run_in_threadpool(sandbox.decode, path, name, modalities)
        except OSError as error:
            raise RefusedError(f"the server cannot store the file: {error.strerror or error}", 503) from error
        if not decoded.inputs:
            raise RefusedError("; ".join(dict.fromkeys(decoded.faults.values())))
        token = clips.put(clip.with_file(printable(name), decoded.inputs))
        return JSONResponse({"clip": token, "faults": decoded.faults, "modalities": list(decoded.inputs)}, 201)

    return app


class ShutdownResponder:
    """Respond to requests that are canceled at shutdown; otherwise the terminal shows their tracebacks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; respond with 503 if it is canceled before a response starts."""
        started = False

        async def track_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, track_send)
        except asyncio.CancelledError:
            if scope["type"] != "http" or started:
                raise
            await JSONResponse({"fault": "the demo is being stopped"}, 503)(scope, receive, send)


def create_server(app: FastAPI) -> uvicorn.Server:
    """Create the server of an application; start it with `run(sockets=[...])`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=LimitedProtocol,
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )


async def _drain(request: Request) -> None:
    """Discard the rest of a request for a moment: a browser that is cut off while it sends never sees the response."""
    # The stream may have been read already, or be closed.
    with suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(DRAIN_SECONDS):
            remaining = DRAIN_BYTES
            async for chunk in request.stream():
                remaining -= len(chunk)
                if remaining < 0:
                    return


def _parse_query(body: bytes) -> Query:
    try:
        return Query.model_validate_json(body)
    except ValidationError as error:
        raise RefusedError(f"invalid query: {error_lines(error.errors())[0]}", 400) from error


def _static(content: bytes, media_type: str) -> Any:
    def respond() -> Response:
        return Response(content, media_type=f"{media_type}; charset=utf-8")

    return respond
