"""The ASGI application: the page and its JSON endpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from anychannel.channels import ChannelError
from anychannel.data import DataError
from anychannel.models import Classifier
from anychannel.serve.decoding import PROCESSES
from anychannel.serve.guard import Guard
from anychannel.serve.images import OpenedImage
from anychannel.serve.page import render, render_assets, render_docs
from anychannel.serve.schemas import Examples, Health, Image, Importance, Model, Prediction, Problem
from anychannel.serve.service import Service
from anychannel.utils.extras import MissingExtraError
from anychannel.utils.version import __version__

DEFAULT_UPLOAD_MB = 64.0
MOST_CLASSES = 1000

GONE: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "The image is not kept (any more)."}}
REFUSED: dict[int | str, dict[str, Any]] = {
    403: {"model": Problem, "description": "A page of another site sent the request."},
    408: {"model": Problem, "description": "The request did not arrive in time."},
    413: {"model": Problem, "description": "The request is too large."},
    415: {"model": Problem, "description": "The request is not a form."},
    422: {"model": Problem, "description": "The file or the channels cannot be used."},
    503: {"model": Problem, "description": "The service is busy."},
}

FileChannels = Annotated[
    str | None,
    Form(description="The file's channels in order, '-' for one that is not used. Default: see /api/model."),
]
Layout = Annotated[
    Literal["planar", "interleaved"] | None, Form(description="Axis order of a TIFF that does not declare it.")
]


def create_app(
    run: str | Path,
    *,
    max_upload_mb: float = DEFAULT_UPLOAD_MB,
    hosts: Sequence[str] | None = None,
    model: Classifier | None = None,
) -> FastAPI:
    """Create the application for one run. Its endpoints may be called by many clients at once.

    Args:
        run: a run's folder.
        max_upload_mb: largest request in MB (2^20 bytes).
        hosts: host names that requests may use. None accepts all.
        model: the run's network, if it is of a class of your own, which the folder cannot rebuild; None loads it.

    Raises:
        ValueError: ``max_upload_mb`` is not positive.
        RunError, ModelFileError: the folder is not a run, or its model cannot be loaded.
    """
    if max_upload_mb <= 0:
        raise ValueError(f"max_upload_mb is the largest request in MB, above 0, got {max_upload_mb}")
    service = Service(run, model)
    max_bytes = int(max_upload_mb * 2**20)
    app = FastAPI(
        title=f"anychannel: {service.run.name}",
        summary="An image classifier that takes any subset of its channels.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Guard, max_bytes=max_bytes, hosts=hosts)
    for kind in (HTTPException, RequestValidationError, ChannelError, DataError, MissingExtraError):
        app.add_exception_handler(kind, answer_error)
    app.include_router(make_api(service, max_bytes), prefix="/api")
    app.include_router(make_pages(service, app.openapi))
    return app


def make_pages(service: Service, schema: Callable[[], dict[str, Any]]) -> APIRouter:
    """The page and its assets, and a page about the endpoints of a ``schema``."""
    router = APIRouter(include_in_schema=False)
    page, assets = render(service), render_assets()

    @router.get("/")
    async def index() -> Response:
        return Response(page, media_type="text/html")

    @router.get("/docs")
    async def docs() -> Response:
        return Response(render_docs(schema()), media_type="text/html")

    @router.get("/{name}")
    async def asset(name: str) -> Response:
        if name not in assets:
            raise HTTPException(404, f"there is no {name!r} here; the page is at /, the endpoints are under /api")
        text, kind = assets[name]
        return Response(text, media_type=kind)

    return router


def make_api(service: Service, max_bytes: int) -> APIRouter:
    """The JSON endpoints. Those that compute run in threads, of which only ``PROCESSES`` wait for decoding."""
    router = APIRouter()
    decoding = CapacityLimiter(PROCESSES)
    explaining = CapacityLimiter(1)  # each asks the network many times

    async def decode(file: UploadFile, channels: str | None, layout: str | None) -> OpenedImage:
        name = file.filename or "the file"
        return await run_sync(service.open, file.file, name, channels, layout, limiter=decoding)

    async def find(file: UploadFile | None, image: str | None, channels: str | None, layout: str | None) -> OpenedImage:
        if (file is None) == (image is None):
            raise HTTPException(422, "give either file, an image, or image, the id of an opened one")
        if file is not None:
            return await decode(file, channels, layout)
        opened = service.images.get(image or "")
        if opened is None:
            raise HTTPException(404, f"image {image!r} is not kept here (any more); send the file again")
        return opened

    described = service.describe(max_bytes)

    @router.get("/health")
    async def health() -> Health:
        """Whether the service is up."""
        return Health(version=__version__)

    @router.get("/model")
    async def model() -> Model:
        """The network: its channels, its classes, and the accuracy of every evaluated subset."""
        return described

    @router.get("/examples")
    async def list_examples() -> Examples:
        """Test images of the run to try."""
        return service.examples

    @router.post("/images", responses=REFUSED)
    async def open_image(
        file: Annotated[UploadFile, File(description="JPEG, PNG, TIFF, BMP, WebP or JPEG 2000.")],
        file_channels: FileChannels = None,
        layout: Layout = None,
    ) -> Image:
        """Open a file: draw each of its channels, and keep it for a while under an id."""
        return (await decode(file, file_channels, layout)).view

    @router.post("/predict", responses=REFUSED | GONE)
    async def predict(
        file: Annotated[UploadFile | None, File(description="The image, or else the id of an opened one.")] = None,
        image: Annotated[str | None, Form(description="Id of an opened image, instead of a file.")] = None,
        channels: Annotated[
            str | None, Form(description="Channels to use, as G,R. Default: all that the image has.")
        ] = None,
        file_channels: FileChannels = None,
        layout: Layout = None,
        top: Annotated[int, Form(ge=1, le=MOST_CLASSES, description="Number of classes to return.")] = 5,
    ) -> Prediction:
        """Classify an image from some of its channels."""
        return await run_sync(service.predict, await find(file, image, file_channels, layout), channels, top)

    @router.post("/importance", responses=REFUSED | GONE)
    async def importance(
        file: Annotated[UploadFile | None, File(description="The image, or else the id of an opened one.")] = None,
        image: Annotated[str | None, Form(description="Id of an opened image, instead of a file.")] = None,
        file_channels: FileChannels = None,
        layout: Layout = None,
    ) -> Importance:
        """Classify an image from subsets of its channels, and say which channels its answer rests on."""
        return await run_sync(service.explain, await find(file, image, file_channels, layout), limiter=explaining)

    return router


def answer_error(_: Request, error: Exception) -> Response:
    """Return an error as JSON: what HTTP forbids, or a request, image or channel that cannot be used."""
    status, text, headers = 422, str(error), None
    if isinstance(error, HTTPException):
        status, text, headers = error.status_code, str(error.detail), error.headers
    elif isinstance(error, RequestValidationError):
        fields = (".".join(map(str, entry["loc"][1:])) or "body" for entry in error.errors())
        text = "; ".join(f"{field}: {entry['msg']}" for field, entry in zip(fields, error.errors(), strict=True))
    return JSONResponse(Problem(error=text).model_dump(), status, headers)
