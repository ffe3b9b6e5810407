"""What every HTTP client of the package shares: TLS settings, and the reading of Retry-After."""

import re
import ssl
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cache

import httpx

SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


@cache
def tls_context() -> ssl.SSLContext:
    """TLS settings of httpx. To read all the certificates takes a tenth of a second: once is
    enough."""
    return httpx.create_ssl_context()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, a number or a date; None if there is none to be read.

    A date counts from the server's own `Date`, for clocks differ; one that is over is negative.
    """
    given = headers.get("retry-after", "").strip()
    if SECONDS.fullmatch(given):
        return float(given)
    until, now = _timestamp(given), _timestamp(headers.get("date", ""))
    if until is None:
        return None
    return until - (time.time() if now is None else now)


def _timestamp(date: str) -> float | None:
    try:
        parsed = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
