"""The server's application: it returns for an upload what `classify --json` would print."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypeVar

from anyio.to_thread import run_sync
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tonearm import __version__
from tonearm.prediction import Failure
from tonearm.record import to_record
from tonearm.serving.disk import Disk
from tonearm.serving.limits import REFUSAL_REASON, SHUTTING_DOWN, LimitedUploads, Limits
from tonearm.serving.pool import NoWorker, WorkerPool, public_reason
from tonearm.serving.schema import RESPONSES, UPLOAD, Description, Health
from tonearm.serving.statistics import Statistics

Result = TypeVar("Result")
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

logger = logging.getLogger(__name__)

MAX_LISTED_GENRES = 1000
MAX_FORM_FIELDS = 10  # form fields besides the file; none of them is read
CLIENT_CLOSED_REQUEST = 499  # nginx's code; only the log shows it
UNAVAILABLE_RETRY_SECONDS = 30  # before a retry; a full disk takes longer to clear than a queue

# The page loads nothing from other hosts, and no other page may embed it.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_NOT_CACHED = {"Cache-Control": "no-store"}  # without it, Varnish keeps answers for two minutes
_FILE_EXPECTED = "file: expected one, in a form (multipart/form-data)"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


def create_app(pool: WorkerPool, limits: Limits | None = None) -> FastAPI:
    """Create the application, for an ASGI server that supports lifespan events.

    The worker processes live as long as the application's lifespan, which begins once all of them
    are ready.

    Parameters
    ----------
    pool
        The worker processes that classify recordings.
    limits
        Limits on uploads; by default those of `Limits`.
    """
    metadata = pool.classifier.bundle.metadata
    page = resources.files("tonearm.serving").joinpath("page.html").read_text("utf-8")
    statistics = Statistics()
    disk = Disk()

    async def save_failed(request: Request, error: Exception) -> Response:
        """Return the error that an upload cannot be saved at the moment."""
        assert isinstance(error, OSError)
        disk.failed(error)
        return _unavailable(request, error, "disk")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with pool.running():
            yield

    app = FastAPI(
        title="Tonearm",
        summary="Listens to music and says its genre.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's two pages load scripts from other hosts
        redoc_url=None,
        exception_handlers={
            HTTPException: _http_error,
            RequestValidationError: _validation_error,
            ClientDisconnect: _client_disconnected,
            NoWorker: _no_worker,
            OSError: save_failed,
            Exception: _internal_error,
        },
        generate_unique_id_function=lambda route: route.name,  # method names in generated clients
        redirect_slashes=False,  # would redirect to any host that the client names
    )
    app.add_middleware(
        LimitedUploads,
        limits=limits or Limits(),
        concurrent=pool.processes,
        statistics=statistics,
    )

    def get(path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Register an endpoint for GET and for HEAD, which the OpenAPI schema leaves out."""

        def register(endpoint: Endpoint) -> Endpoint:
            app.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)(endpoint)
            return app.get(path, **options)(endpoint)

        return register

    @app.post("/classify", response_class=JSONResponse, responses=RESPONSES, openapi_extra=UPLOAD)
    async def classify(
        request: Request,
        timeline: Annotated[bool, Query(description="Add every window in time.")] = False,
        top: Annotated[
            int | None, Query(ge=1, le=MAX_LISTED_GENRES, description="How many genres to list.")
        ] = None,
    ) -> Response:
        """Classify a recording in any format that FFmpeg reads."""
        # Windows cannot delete a file that a process is still reading.
        with TemporaryDirectory(prefix="tonearm-", ignore_cleanup_errors=True) as folder:
            form = await _form(request)
            try:
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise HTTPException(400, _FILE_EXPECTED)
                received_at = time.monotonic()
                # Without half surrogate pairs, which are no text; JSON escapes control characters.
                name = (file.filename or "").encode("utf-8", "replace").decode()
                path = await run_sync(_save_upload, file, folder)
                disk.saved()
            finally:
                await form.close()
            result = await _unless_disconnected(request, pool.attempt(path))
        if result is None:
            raise ClientDisconnect
        statistics.record_result(result, time.monotonic() - received_at)
        record = to_record(name, result, top=top, timeline=timeline)
        return JSONResponse(record, 422 if isinstance(result, Failure) else 200)

    @get("/health", responses={503: {"model": Health, "description": "It cannot classify."}})
    async def health(response: Response) -> Health:
        """Report that recordings can be classified, or why they cannot."""
        response.headers.update(_NOT_CACHED)
        trouble = pool.unavailable_reason or await run_sync(disk.unavailable_reason)
        if trouble:
            response.status_code = 503
        return Health(status=trouble or "ok", version=__version__, model=metadata.name)

    @get("/model", response_class=JSONResponse, responses={200: {"model": Description}})
    async def model() -> Response:
        """Return the metadata of the model's bundle: its genres, figures, sources and licence."""
        return Response(metadata.to_json(), media_type="application/json")

    @get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return statistics of what the server has done so far, in Prometheus' format."""
        return Response(
            statistics.exposition(), headers=_NOT_CACHED, media_type=statistics.content_type
        )

    @get("/", response_class=HTMLResponse, include_in_schema=False)
    async def upload_page() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": _CONTENT_SECURITY_POLICY})

    return app


async def _form(request: Request) -> FormData:
    """Read a form that contains one file.

    FastAPI itself would accept up to a thousand files, and report a full disk as a bad request.
    """
    content_type = request.headers.get("Content-Type", "").partition(";")[0]
    if content_type.strip().lower() != "multipart/form-data":  # as `curl --data-binary` sends
        raise HTTPException(400, _FILE_EXPECTED)
    try:
        return await request.form(max_files=1, max_fields=MAX_FORM_FIELDS)
    except UnicodeError:  # undecodable in the character set that the client names
        raise HTTPException(400, "the form cannot be read") from None


def _save_upload(upload: UploadFile, folder: str) -> Path:
    """Write an upload to a named file, which a worker process can open."""
    suffix = PurePath(upload.filename or "").suffix
    # FFmpeg uses the suffix if the beginning of a file does not identify its format.
    known = suffix if _SUFFIX.fullmatch(suffix) else ""
    path = Path(folder) / f"upload{known}"
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)
    return path


async def _unless_disconnected(request: Request, awaitable: Awaitable[Result]) -> Result | None:
    """Return the result of an awaitable, or None if the client disconnects first."""
    task = asyncio.ensure_future(awaitable)
    # The upload is complete: the only message still to come is that the client disconnects.
    disconnect = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, disconnect), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    except asyncio.CancelledError:  # the server's time to shut down is over
        raise HTTPException(503, SHUTTING_DOWN) from None
    finally:
        task.cancel()
        disconnect.cancel()


async def _client_disconnected(request: Request, error: Exception) -> Response:
    """Return an empty response for a client that has disconnected; only the log shows it."""
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    messages = (
        f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()
    )
    return JSONResponse({"error": "; ".join(messages)}, 400)


async def _no_worker(request: Request, error: Exception) -> Response:
    """Return the error that no worker process is running at the moment."""
    return _unavailable(request, error, "process")


def _unavailable(request: Request, error: Exception, resource: str) -> Response:
    """Refuse a request while there is no process to handle it, or no room on the disk."""
    reason = public_reason(error)
    logger.warning("%s: %s", request.url.path, reason)
    request.scope[REFUSAL_REASON] = resource
    return JSONResponse({"error": reason}, 503, {"Retry-After": str(UNAVAILABLE_RETRY_SECONDS)})


async def _internal_error(request: Request, error: Exception) -> Response:
    """Return the error that the server has failed; the log has the details."""
    return JSONResponse({"error": "something is wrong in the server"}, 500)
