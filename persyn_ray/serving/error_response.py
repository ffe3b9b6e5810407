"""Error responses of the endpoint, in the form that OpenAI's clients read."""

from collections.abc import Mapping
from typing import TypedDict

TYPES = {
    400: "invalid_json",
    401: "authentication",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    422: "invalid_request",
    429: "too_many_requests",
    500: "internal",
    501: "not_configured",
    502: "upstream",
    503: "not_ready",
    504: "timeout",
}
RETRY_SOON = {"Retry-After": "1"}
"""Headers of a refusal that passes by itself."""


class Refusal(Exception):
    """A request that gets no answer, with the status and the words to say so."""

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        """`code`: OpenAI's word for it, where a client acts on it."""
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})
        self.code = code


class ErrorFields(TypedDict):
    message: str
    type: str
    code: str | int


class ErrorBody(TypedDict):
    error: ErrorFields


def error_body(status: int, message: str, code: str | None = None) -> ErrorBody:
    """`{"error": {"message", "type", "code"}}`."""
    kind = code or TYPES.get(status, "invalid_request")
    return {"error": {"message": message, "type": kind, "code": code or status}}
