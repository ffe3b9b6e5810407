"""The endpoint's addresses: a FastAPI application over a `Service`. The guard stands before it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from persyn_ray import __version__
from persyn_ray.serving.chat.budget import spending, spending_families
from persyn_ray.serving.chat.forwarding import Forwarder
from persyn_ray.serving.error_response import TYPES, Refusal, error_body
from persyn_ray.serving.messages import (
    ChatRequest,
    Route,
    RouteAnswer,
    RouteRequest,
    RouterName,
    Status,
    Wish,
    conversation,
    require_text,
    without_nulls,
)
from persyn_ray.serving.metrics import prometheus_text, routed_by_teacher
from persyn_ray.serving.middleware.body_size import BoundedRoute
from persyn_ray.serving.route_requests import AT_ONCE, Service, find_routes, ready

MODEL = "persyn"
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": kind.replace("_", " ")} for status, kind in TYPES.items()
}


def build_app(service: Service) -> FastAPI:
    """The application; see the OpenAPI document for its addresses."""
    forwarder = Forwarder(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await forwarder.close()

    app = FastAPIOffline(
        redoc_url=None,
        static_url="/docs/static",
        title="persyn-ray router",
        version=__version__,
        description="Which teacher should answer a prompt, for one student.",
        lifespan=lifespan,
    )
    app.router.route_class = BoundedRoute
    _add_handlers(app)
    _add_open(app, service)
    _add_routing(app, service)
    _add_chat(app, service, forwarder)
    return app


def _add_open(app: FastAPI, service: Service) -> None:
    page = files("persyn_ray.serving").joinpath("page.html").read_text("utf-8")

    @app.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get("/healthz", tags=["state"])
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["state"], responses={503: REFUSALS[503]})
    async def readyz() -> JSONResponse:
        """Whether a router is loaded, and whether a later change was refused."""
        state = service.state
        body = {
            "status": "loading" if state is None else "ready",
            "router": None if state is None else state.model.version,
            "error": service.problem and "A change was refused; /v1/status says why.",
        }
        return JSONResponse(body, 503 if state is None else 200)


def _add_routing(app: FastAPI, service: Service) -> None:
    @app.post("/v1/route", response_model=RouteAnswer, responses=REFUSALS, tags=["routing"])
    async def route(body: RouteRequest) -> Response:
        """Teachers for one prompt or many."""
        if body.num_prompts > service.settings.max_prompts:
            limit = service.settings.max_prompts
            raise Refusal(422, f"{body.num_prompts} prompts; serving.max_prompts is {limit}.")
        state, candidates, routes = await find_routes(service, body.conversations, body)
        answer = RouteAnswer.model_construct(
            router=RouterName(version=state.model.version, loss=state.model.loss),
            teachers=list(state.policy.teachers),
            candidates=candidates,
            routes=routes,
        )
        headers = _told(state.model.version, routes[0])
        # A thousand routes take longer to write than the loop should be away.
        is_small = len(routes) <= AT_ONCE
        write = answer.model_dump_json
        text = write() if is_small else await asyncio.to_thread(write)
        return Response(text, media_type="application/json", headers=headers)

    @app.get("/v1/status", response_model=Status, responses=REFUSALS, tags=["state"])
    async def status() -> Status:
        """Router, teachers, and shares over all replicas since they started."""
        state = ready(service)
        families, num_replicas = await service.everywhere()
        routed = routed_by_teacher(families)
        total = sum(routed.values())
        masked = state.policy.masked
        return Status(
            router=state.model.facts,
            teachers=list(state.policy.teachers),
            candidates=[name for name in state.policy.teachers if name not in masked],
            shares={name: num / total for name, num in routed.items()} if total else {},
            num_routed=total,
            replicas=num_replicas,
            chats=await spending(service.settings, state.accounts),
            problem=service.problem,
        )

    @app.get("/metrics", tags=["state"], responses=REFUSALS)
    async def metrics() -> Response:
        """Counters over all replicas, in Prometheus' text format."""
        families, num_replicas = await service.everywhere()
        accounts = {} if service.state is None else service.state.accounts
        paid = spending_families(await spending(service.settings, accounts))
        text = prometheus_text([*families, *paid], num_replicas)
        return Response(text, media_type="text/plain; version=0.0.4")


def _add_chat(app: FastAPI, service: Service, forwarder: Forwarder) -> None:
    @app.post("/v1/chat/completions", responses=REFUSALS, tags=["routing"])
    async def chat_completions(request: Request, body: ChatRequest) -> Response:
        """OpenAI's chat completion, answered by the teacher that the router chooses."""
        names = list(forwarder.upstreams)
        if not names:
            raise Refusal(501, "No teacher answers chats here: set serving.upstreams.")
        whole = await request.json()  # with all that is not ours to read
        whole["messages"] = without_nulls(whole["messages"])
        require_text(whole["messages"])
        if body.model == MODEL:
            given, wish = [conversation(body.messages)], body.persyn or Wish()
            state, _, (route,) = await find_routes(service, given, wish, among=names)
            headers = _told(state.model.version, route) | {"x-persyn-teacher": route.teacher}
            return await forwarder.forward(state, route.teacher, whole, headers)
        if body.model not in names:
            raise Refusal(404, f"model is {body.model!r}; it can be {MODEL!r} or one of {names}.")
        headers = {"x-persyn-teacher": body.model}
        return await forwarder.forward(ready(service), body.model, whole, headers)

    @app.get("/v1/models", responses=REFUSALS, tags=["routing"])
    async def models() -> dict[str, Any]:
        """What may stand under `model` in a chat completion."""
        names = [MODEL, *forwarder.upstreams]
        data = [{"id": n, "object": "model", "created": 0, "owned_by": "persyn"} for n in names]
        return {"object": "list", "data": data}


def _told(version: str, route: Route) -> dict[str, str]:
    """Headers that name the router, and say that it had no part in the answer."""
    told = {"x-persyn-router": version}
    return told | ({"x-persyn-fallback": route.fallback} if route.fallback else {})


def _add_handlers(app: FastAPI) -> None:
    """All refusals in one form; none of them repeats a prompt."""

    @app.exception_handler(Refusal)
    async def refuse(_: Request, error: Refusal) -> JSONResponse:
        return JSONResponse(
            error_body(error.status, error.message, error.code), error.status, error.headers
        )

    @app.exception_handler(HTTPException)
    async def complain(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(
            error_body(error.status_code, str(error.detail)), error.status_code, error.headers
        )

    @app.exception_handler(Exception)
    async def apologise(_: Request, error: Exception) -> JSONResponse:
        text = f"{type(error).__name__}: a fault of the endpoint; its log says where."
        return JSONResponse(error_body(500, text), 500)

    @app.exception_handler(RequestValidationError)
    async def explain(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = error.errors()
        if any(f["type"] == "model_attributes_type" and f["loc"] == ("body",) for f in faults):
            text = "The body has to be a JSON object, sent with Content-Type: application/json."
            return JSONResponse(error_body(422, text), 422)
        status = 400 if any(fault["type"] == "json_invalid" for fault in faults) else 422
        lines = [
            ".".join(str(part) for part in fault["loc"] if part != "body") + f": {fault['msg']}"
            for fault in faults[:5]
        ]
        text = "; ".join(line.removeprefix(": ") for line in lines)
        return JSONResponse(error_body(status, _printable(text)), status)


def _printable(text: str) -> str:
    """Names of unknown fields come from outside, and may hold halves of characters."""
    return text.encode("utf-8", "replace").decode()[:2000]
