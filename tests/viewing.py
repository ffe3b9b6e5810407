"""`persyn view` as a process: words of the command in, the address that it says out."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/")


@contextmanager
def viewer(words: Sequence[str]) -> Iterator[str]:
    """The address of a viewer that is then interrupted; the browser that it opens is a command.

    Raises:
        AssertionError: it did not say where it listens, or did not end well.
    """
    command = [sys.executable, "-m", "persyn_ray.cli", *words]
    environment = os.environ | {"BROWSER": "true", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            told = ""
            while (found := ADDRESS.search(told)) is None:
                line = process.stdout.readline()
                assert line, told
                told += line
            yield found[0]
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=300) == 0
        finally:
            process.kill()
