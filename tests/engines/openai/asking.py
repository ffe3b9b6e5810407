"""Requests and engines for the tests of endpoints."""

from typing import Any

from persyn_ray.engines.base import Completion, Message, Request
from persyn_ray.engines.openai.engine import OpenAIEngine
from persyn_ray.recipe.engines import OpenAIEngineConfig as Endpoint
from persyn_ray.recipe.teachers import SamplingConfig

from .fault_server import FaultServer


def request(text: str, max_tokens: int | None = None) -> Request:
    return Request(f"id of {text}", [Message(role="user", content=text)], max_tokens)


def requests(number: int, start: int = 0) -> list[Request]:
    return [request(f"p{place}") for place in range(start, start + number)]


def sampling(**settings: Any) -> SamplingConfig:
    return SamplingConfig.model_validate({"max_tokens": 16} | settings)


def engine_of(server: FaultServer | str, **settings: Any) -> OpenAIEngine:
    """An engine that loses no time between attempts; settings are the section's or its own."""
    known = set(Endpoint.model_fields)
    section = {name: value for name, value in settings.items() if name in known}
    others = {name: value for name, value in settings.items() if name not in known}
    address = server if isinstance(server, str) else server.base_url
    fields = {"kind": "openai", "model": "tiny", "base_url": address, "api_key_env": None}
    endpoint = Endpoint.model_validate(fields | section)
    return OpenAIEngine("ada", endpoint, **({"sampling": sampling(), "first_delay": 0.01} | others))


def reasons(completions: list[Completion]) -> list[str]:
    return [completion.finish_reason for completion in completions]
