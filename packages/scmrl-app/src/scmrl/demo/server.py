"""The demo's server: one page, what it asks for, and the uploads it sends."""

from __future__ import annotations

import asyncio
import io
import re
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
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
from scmrl.demo.clips import KeptClips, ShownClip, senses_of
from scmrl.demo.connections import BoundedProtocol
from scmrl.demo.guard import Guard
from scmrl.demo.intake import Intake
from scmrl.demo.refused import RefusedError
from scmrl.demo.sandbox import Sandbox
from scmrl.demo.session import OpenDemo
from snn_datasets.base.kinds import kinds_by_name
from snn_datasets.formats.contents import kinds_of

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Of the files in the folder `page`, by ending."""
LARGEST_QUESTION = 2**16
"""Bytes of a question; the longest has some hundred."""
QUESTION_SECONDS = 5.0
"""For a question to come in."""
UPLOAD_SECONDS = 120.0
"""For an upload to come in."""
QUESTIONS, UPLOADS = 32, 8
"""Questions and uploads that may come in at once; of more, the slowest gives way."""
HEARD_OUT = 2**26
"""Bytes of a refused request that are still taken, and thrown away."""
HEARD_OUT_SECONDS = 2.0
"""Longest time for that."""
PATIENCE = 3
"""Seconds that requests under way get when the server is stopped."""
QUEUE = 4
"""Uploads that may wait to be read at once; a further one is asked to come again."""
ANSWERING = 4
"""Questions that the model answers at once; others wait, and take no thread meanwhile."""
EXPLAINING = 16
"""Explanations that may wait for each other; a further one is asked to come again."""

READ = ["GET", "HEAD"]
"""Methods of what is only read."""
NUMBER = re.compile("[0-9]{1,18}")
"""Of a sample, where it stands beside tokens; Python refuses to read numbers of any length."""

Share = Annotated[float, Field(ge=0, le=1)]


class Question(BaseModel):
    """What the page asks of the model."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    clip: str | int
    """The token of an upload, or the number of a sample."""
    muted: list[str] = []
    """Modalities that the model does not get."""
    noise: dict[str, Share] = {}
    """By modality the share of noise."""


def create_app(demo: OpenDemo, *, host: str, largest_upload: int, seconds: float, token: str | None = None) -> FastAPI:
    """The demo as an application to be served.

    Args:
        demo: the run.
        host: name or address that it is served on.
        largest_upload: in bytes.
        seconds: that reading an upload may take.
        token: that requests need; None: they need none.
    """
    clips = KeptClips()
    sandbox = Sandbox(demo.inputs, seconds=seconds) if demo.inputs is not None else None
    pending = asyncio.Semaphore(QUEUE)
    answering = asyncio.Semaphore(ANSWERING)
    explaining, one_explanation = asyncio.Semaphore(EXPLAINING), asyncio.Lock()
    questions = Intake(QUESTIONS, seconds=QUESTION_SECONDS)
    uploads = Intake(UPLOADS, seconds=UPLOAD_SECONDS)

    @asynccontextmanager
    async def until_stopped(_app: FastAPI) -> AsyncGenerator[None]:
        yield
        if sandbox is not None:
            sandbox.close()

    # FastAPI's own pages about the interface load scripts from elsewhere.
    app = FastAPI(title="scmrl demo", lifespan=until_stopped, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Farewell)
    app.add_middleware(Guard, host=host, token=token)
    app.state.sandbox = sandbox

    async def refused(request: Request, error: Exception) -> Response:
        if isinstance(error, RequestValidationError):
            error = RefusedError(_first_fault(error.errors(), "this address is not understood"), 400)
        if isinstance(error, HTTPException):
            return JSONResponse({"fault": error.detail}, error.status_code)
        assert isinstance(error, RefusedError)
        await _hear_out(request)
        return JSONResponse({"fault": str(error)}, error.status, {"Connection": "close"})

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, refused)

    for file in files("scmrl.demo").joinpath("page").iterdir():
        path = "/" if file.name == "index.html" else f"/{file.name}"
        kind = TYPES[PurePath(file.name).suffix]
        app.add_api_route(path, _page(file.read_bytes(), kind), methods=READ)

    def clip_of(key: str | int) -> ShownClip:
        return demo.sample(key) if isinstance(key, int) else clips.get(key)

    @app.api_route("/api/run", methods=READ)
    def run() -> dict[str, Any]:
        return demo.described(largest_upload / 1e6)

    @app.api_route("/api/sounds", methods=READ)
    def sound(sample: int, sense: str) -> Response:
        return Response(demo.sound(sample, sense), media_type="audio/wav")

    async def question_of(request: Request) -> Question:
        body = io.BytesIO()
        await questions.receive(request, body, LARGEST_QUESTION, "the question")
        return _question(body.getvalue())

    async def put(question: Question, to: Callable[..., dict[str, Any]]) -> Response:
        def answered() -> Response:
            return JSONResponse(to(clip_of(question.clip), frozenset(question.muted), question.noise))

        return await run_in_threadpool(answered)

    @app.post("/api/answers")
    async def answers(request: Request) -> Response:
        question = await question_of(request)
        async with answering:
            return await put(question, demo.answer)

    @app.post("/api/explanations")
    async def explanations(request: Request) -> Response:
        question = await question_of(request)
        if explaining.locked():
            raise RefusedError("too many explanations at once; try again in a moment", 503)
        async with explaining, one_explanation:
            return await put(question, demo.explanation)

    @app.post("/api/clips")
    async def upload(request: Request, name: str, sense: str | None = None, into: str | None = None) -> Response:
        if sandbox is None or demo.inputs is None:
            raise RefusedError(demo.no_files, 404)
        before = ShownClip({}) if into is None else clip_of(int(into) if NUMBER.fullmatch(into) else into)
        modalities = senses_of(name, demo.inputs.modalities, wanted=sense, there=before.inputs)
        try:
            with tempfile.TemporaryDirectory(dir=sandbox.folder) as folder:
                # Only the ending of the name counts, and it is one of those known.
                path = Path(folder, "upload" + PurePath(name).suffix.lower())
                with path.open("wb") as file:
                    await uploads.receive(request, file, largest_upload, printable(name))
                if len(kinds_by_name(name)) > 1:
                    # The name does not tell what the file holds.
                    modalities = senses_of(
                        name, demo.inputs.modalities, wanted=sense, there=before.inputs, kinds=kinds_of(path)
                    )
                if pending.locked():
                    raise RefusedError("too many uploads at once; try again in a moment", 503)
                async with pending:
                    read = await run_in_threadpool(sandbox.read, path, name, modalities)
        except OSError as error:
            raise RefusedError(f"the server has no place for files: {error.strerror or error}", 503) from error
        if not read.found:
            raise RefusedError("; ".join(dict.fromkeys(read.faults.values())))
        token = clips.put(before.with_file(printable(name), read.found))
        return JSONResponse({"clip": token, "faults": read.faults, "senses": list(read.found)}, 201)

    return app


class Farewell:
    """Tells those whose requests are broken off that the server stops; the terminal would get their tracebacks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and answer in its place if it is broken off before it has an answer."""
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except asyncio.CancelledError:
            if scope["type"] != "http" or begun:
                raise
            await JSONResponse({"fault": "the demo is being stopped"}, 503)(scope, receive, send)


def server_of(app: FastAPI) -> uvicorn.Server:
    """What serves the application on a socket that it is given, by `run(sockets=[...])`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=PATIENCE,
        )
    )


async def _hear_out(request: Request) -> None:
    """Throw away for a moment what is still being sent: a browser that is cut off meanwhile never sees the answer."""
    # The stream may have been read already, or be gone.
    with suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(HEARD_OUT_SECONDS):
            left = HEARD_OUT
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    return


def _question(body: bytes) -> Question:
    try:
        return Question.model_validate_json(body)
    except ValidationError as error:
        raise RefusedError(_first_fault(error.errors(), "this question is not understood"), 400) from error


def _first_fault(faults: Sequence[Any], what: str) -> str:
    """The first of pydantic's faults in a line."""
    field_path = ".".join(map(str, faults[0]["loc"]))
    return f"{what}: {field_path + ': ' if field_path else ''}{faults[0]['msg']}"


def _page(content: bytes, kind: str) -> Any:
    def page() -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8")

    return page
