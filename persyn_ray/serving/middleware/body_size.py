"""Counts the values of a JSON body before it is parsed; each costs more memory than its bytes."""

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from persyn_ray.serving.error_response import Refusal

MOST_VALUES = 2**16
"""Lists, objects and what they hold; a thousand conversations of a dozen turns have fewer."""
# Up to a mark that a further value follows; those within strings are none.
_TO_NEXT = re.compile(rb'(?:[^",\[{]++|"(?:[^"\\]++|\\.)*+")*+[,\[{]', re.DOTALL)


def has_more_values(body: bytes, most: int = MOST_VALUES) -> bool:
    """Whether a body holds more than so many values, in time linear in its length."""
    if sum(map(body.count, (b",", b"[", b"{"))) <= most:
        return False
    position = 0
    for _ in range(most + 1):
        match = _TO_NEXT.match(body, position)
        if match is None:
            return False
        position = match.end()
    return True


class BoundedRoute(APIRoute):
    """A route that refuses a body of too many values before anything reads it (422)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            if has_more_values(await request.body()):
                raise Refusal(422, f"The body holds more than {MOST_VALUES} values; send fewer.")
            return await handle(request)

        return bounded
