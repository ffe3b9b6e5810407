"""Waits in a browser: a reading of a page in, and the page has come to it out."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE_MS = 90_000
"""For which a page on a busy machine is waited for before a test fails."""


def becomes(page: Any, read: Callable[[], Any], wanted: Any) -> None:
    """Wait until a reading gives what is wanted.

    Raises:
        AssertionError: with what it gave last.
    """
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while (found := read()) != wanted and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert found == wanted
