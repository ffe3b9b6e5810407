"""Pages in a browser: serves an application to it, and waits until a page has come to a reading."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

PATIENCE_MS = 90_000
"""For which a page on a busy machine is waited for before a test fails."""
OF_ANSWERS = re.compile(r"Failed to load resource: (the server responded|net::ERR_)")
"""What a browser complains of where it was answered with an error."""


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
def watched_page(browser: Any, address: str, width: int, height: int = 900) -> Iterator[Any]:
    """A page of a fresh context that ends without complaints, other than of the answers it was
    given, and without a request to elsewhere.

    Raises:
        AssertionError: with the complaints or requests.
    """
    size = {"width": width, "height": height}
    context = browser.new_context(viewport=size, base_url=address)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    urls: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: urls.append(request.url))
    yield opened
    assert [text for text in complaints if not OF_ANSWERS.match(text)] == []
    assert [url for url in urls if not url.startswith((address + "/", "data:"))] == []
    context.close()


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
