"""Serves the viewer: an application and a socket in, answers until Ctrl-C."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI

from persyn_ray.errors import ConfigError

PORT = 8265


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket; port 0 is the usual one, or any free one where that is taken.

    Raises:
        ConfigError: the address or port cannot be had.
    """
    ports = (port,) if port else (PORT, 0)
    for tried in ports:
        bound = None
        try:
            family = socket.getaddrinfo(host, tried, type=socket.SOCK_STREAM)[0][0]
            bound = socket.socket(family, socket.SOCK_STREAM)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, tried))
            bound.listen()  # who is told the address may come at once
        except OSError as error:
            if bound is not None:
                bound.close()
            if tried == ports[-1]:
                raise ConfigError(
                    f"Cannot listen on {host}:{tried}: {error.strerror or error}. Choose another "
                    "--host or --port."
                ) from error
            continue
        with bound:
            yield bound
        return


def url_of(host: str, bound: socket.socket) -> str:
    """The address of the viewer for a browser."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{bound.getsockname()[1]}/"


def serve(
    app: FastAPI, bound: socket.socket, when_ready: Callable[[], object] | None, verbose: bool
) -> None:
    """Answer until the process is interrupted."""

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if when_ready is not None:
                when_ready()

    level = "info" if verbose else "warning"
    config = uvicorn.Config(app, log_level=level, access_log=verbose, timeout_graceful_shutdown=1)
    with suppress(KeyboardInterrupt):  # uvicorn has ended in order and raises it again
        Server(config).run([bound])
