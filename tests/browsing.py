"""Pages in a browser: serves an application to it, and waits until a page has come to a reading."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

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


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The address of the application while a thread serves it."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
