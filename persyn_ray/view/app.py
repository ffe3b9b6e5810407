"""The viewer as a web application: a run's address in, a FastAPI application out that only reads.

Its pages are static files of `page/`; what they show comes from addresses below `/api`.
"""

import logging
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from persyn_ray import __version__
from persyn_ray.credentials import cut_secrets
from persyn_ray.errors import ConfigError, PersynError
from persyn_ray.view.answers import Answers
from persyn_ray.view.dead_letters import DeadLetterCounts
from persyn_ray.view.guard import Guard
from persyn_ray.view.now import Now
from persyn_ray.view.overview import Overview
from persyn_ray.view.prompts.facts import PromptFacts
from persyn_ray.view.prompts.filters import Filters
from persyn_ray.view.prompts.listing import PromptPage
from persyn_ray.view.teachers import Teachers

log = logging.getLogger(__name__)
VIEWS = ("/", "/prompts", "/prompt", "/teachers", "/dead-letters", "/run-report")
MOST_ROWS = 500
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
)
TYPES = {".js": "text/javascript", ".css": "text/css", ".woff2": "font/woff2"}
"""Not every system knows them."""


class Files(StaticFiles):
    """Static files with types that do not depend on the system."""

    def file_response(self, full_path, stat_result, scope, status_code=200) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        kind = TYPES.get(Path(full_path).suffix)
        if kind is not None:
            text = kind.startswith("text/")
            response.headers["content-type"] = f"{kind}; charset=utf-8" if text else kind
        return response


def create_app(address: str, is_loopback: bool = True) -> FastAPI:
    """The viewer of the run in a folder, local or remote.

    Args:
        is_loopback: whether it listens on this machine alone; then other host names are refused.

    Raises:
        PersynError: there is no run.
    """
    answers = Answers(address)
    app = FastAPI(
        title="persyn view", version=__version__, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_middleware(Guard, is_loopback=is_loopback)
    _add_handlers(app)
    _add_pages(app, answers)
    _add_run(app, answers)
    _add_prompts(app, answers)
    return app


def _add_pages(app: FastAPI, answers: Answers) -> None:
    page = Path(str(files("persyn_ray.view").joinpath("page")))
    app.mount("/static", Files(directory=page, check_dir=False))

    def show_page() -> HTMLResponse:
        return HTMLResponse((page / "index.html").read_text("utf-8"))

    for view in VIEWS:
        app.get(view)(show_page)

    @app.get("/report")
    def report() -> HTMLResponse:
        text = answers.report()
        headers = {"content-security-policy": REPORT_POLICY}
        return HTMLResponse(text or _no_report(), 200 if text else 404, headers)


def _add_run(app: FastAPI, answers: Answers) -> None:
    @app.get("/api/run", response_model=None)
    def run() -> Overview:
        return answers.overview()

    @app.get("/api/now", response_model=None)
    def now() -> Now:
        return answers.now()

    @app.get("/api/teachers", response_model=None)
    def teachers() -> Teachers:
        return answers.teachers()

    @app.get("/api/dead-letters", response_model=None)
    def dead_letters() -> DeadLetterCounts:
        return answers.dead_letters()


def _add_prompts(app: FastAPI, answers: Answers) -> None:
    @app.get("/api/prompts", response_model=None)
    def prompts(
        request: Request,
        offset: Annotated[int, Query(ge=0, le=2**40)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
    ) -> PromptPage:
        return answers.list.page(_filters(request), offset, limit)

    @app.get("/api/prompts/{prompt_id:path}", response_model=None)
    def prompt(request: Request, prompt_id: str) -> PromptFacts:
        found = answers.prompt(prompt_id, _filters(request))
        if found is None:
            raise HTTPException(
                404, f"No prompt {prompt_id[:200]!r} in this run; /api/prompts lists their ids."
            )
        return found


def _filters(request: Request) -> Filters:
    given = request.query_params
    return Filters(
        search=given.get("search", "").strip()[:1000],
        task=given.get("task") or None,
        teacher=given.get("teacher") or None,
        split=given.get("split") or None,
        flags=tuple(dict.fromkeys(flag for flag in given.getlist("flag") if flag)),
        sort=given.get("sort") or None,
    )


def _no_report() -> str:
    return (
        "<!doctype html><meta charset=utf-8><title>No report</title><p>This run has no report yet: "
        "<code>persyn report RUN</code> writes one."
    )


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(PersynError)
    def refuse(_: Request, error: PersynError) -> JSONResponse:
        status = 400 if isinstance(error, ConfigError) else 503
        return JSONResponse({"error": cut_secrets(str(error))}, status)

    @app.exception_handler(RequestValidationError)
    def complain(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}."}, 400)

    @app.exception_handler(HTTPException)
    def miss(request: Request, error: HTTPException) -> JSONResponse:
        text = str(error.detail)
        if error.status_code == 404 and text == "Not Found":
            text = f"Nothing is at {request.url.path[:200]}; pages: {', '.join(VIEWS)}."
        return JSONResponse({"error": text}, error.status_code)

    @app.exception_handler(Exception)
    def apologise(_: Request, error: Exception) -> JSONResponse:
        log.error("A fault of the viewer", exc_info=error)
        text = f"{type(error).__name__}: a fault of the viewer; its terminal says where."
        return JSONResponse({"error": text}, 500)
