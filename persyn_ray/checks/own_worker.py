"""Worker process that calls a quality of one's own; `own_processes` starts and kills it.

A request is JSON rows, the reply JSON verdicts or what went wrong. Nothing outlives its parent: the
process ends when its connection is closed, and a thread looks whether its parent is still there
while a function runs.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from persyn_ray.checks.own_function import CallFailed, called
from persyn_ray.errors import ConfigError
from persyn_ray.recipe.own_code import load_code

LOOK_SECONDS = 1.0  # between two looks at the parent


def main(descriptor: int, reference: str, source: str | None, parent: int) -> None:
    """Answer requests until the connection is closed."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    asker = Connection(descriptor)
    os.dup2(2, 1)  # what a function prints goes where complaints go
    try:
        function = load_code(reference, source, "scoring.quality.function")
    except ConfigError as error:
        asker.send_bytes(json.dumps({"refused": str(error)}).encode())
        return
    asker.send_bytes(json.dumps({}).encode())
    while True:
        try:
            request = json.loads(asker.recv_bytes())
        except EOFError:
            return
        asker.send_bytes(json.dumps(_answer(function, request)).encode())


def _answer(function: Callable[..., Any], request: dict[str, Any]) -> dict[str, Any]:
    try:
        found = called(function, request["settings"], request["rows"])
    except CallFailed as failure:
        return {"failed": failure.args}
    return {"scored": [(one.outcome, one.quality, detail) for one, detail in found]}


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3] or None, int(sys.argv[4]))
