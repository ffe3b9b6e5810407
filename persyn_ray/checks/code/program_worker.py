"""Worker process that runs programs against their tests, each in a confined child.

`programs.Programs` starts and kills it. It holds nothing but the standard library, and forks a
child for every program, which confines itself (see `sandbox`) before it runs a line: a start takes
milliseconds. A child past its wall-clock limit is killed; it cannot have started others.

A request is one line of JSON (`Task`), the reply another (`[passed, detail]`). A program passes
when its child has reached the end of its tests and says so with a word that is new each time; one
that leaves early, however politely, has failed.
"""

import ctypes
import gc
import io
import json
import os
import secrets
import select
import signal
import sys
import time
import traceback
import types
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass

from persyn_ray.checks.code.sandbox import Limits, confine

MOST_OUTPUT = 1 << 20
"""Characters of a program's output that are compared; more is wrong."""
DETAIL = 300
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Task:
    """A program and what it is held against."""

    program: str
    tests: str
    """Python that raises where the program is wrong, run in the program's namespace; not with
    `examples`."""
    examples: tuple[tuple[str, str], ...]
    """Input and expected output of the program as a whole."""


@dataclass(frozen=True)
class Ran:
    """What became of a program."""

    passed: bool
    detail: str
    """Why not; empty where it passed."""


def main(limits: Limits, wall_seconds: float) -> None:
    """Answer requests from standard input until it is closed."""
    gc.freeze()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        program, tests, examples = json.loads(line)
        task = Task(program, tests, tuple((given, wanted) for given, wanted in examples))
        found = run(task, limits, wall_seconds)
        print(json.dumps([found.passed, found.detail]), flush=True)


def run(task: Task, limits: Limits, wall_seconds: float) -> Ran:
    """Run a program against its tests in a confined child.

    Raises:
        OSError: no child can be made.
    """
    word = secrets.token_hex(16)
    reading, writing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            _in_child(task, limits, writing, word, parent)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        said = _read(reading, time.monotonic() + wall_seconds)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    return _ran(said, word, status, limits, wall_seconds)


def _ran(said: bytes | None, word: str, status: int, limits: Limits, wall: float) -> Ran:
    if said is None:
        return Ran(False, f"not done in {wall:g} s")
    first, _, rest = said.decode("utf-8", "replace").partition("\n")
    if first == word:
        return Ran(not rest, rest[:DETAIL])
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        return Ran(False, f"killed: more than {limits.cpu_seconds:g} s of CPU time, or no memory")
    if os.WIFSIGNALED(status):
        return Ran(False, f"killed by {signal.Signals(os.WTERMSIG(status)).name}")
    return Ran(False, "it left before its tests were done")


def _read(reading: int, ends: float) -> bytes | None:
    """All that is written until the other end is closed; None where that takes too long."""
    found = b""
    while (left := ends - time.monotonic()) > 0:
        if not select.select([reading], [], [], left)[0]:
            break
        some = os.read(reading, 65536)
        if not some or len(found) > 4 * DETAIL:
            return found
        found += some
    return None


def _in_child(task: Task, limits: Limits, writing: int, word: str, parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        return
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.dup2(writing, 3)
    os.closerange(4, 4096)
    sys.stdin = io.TextIOWrapper(io.BytesIO())
    try:
        confine(limits)
    except OSError as error:
        os.write(3, f"not confined: {error}".encode())
        return
    why = _failure(task)
    os.write(3, f"{word}\n{why}".encode("utf-8", "replace"))


def _failure(task: Task) -> str:
    """Why a program fails its tests; empty if it passes."""
    try:
        if task.examples:
            return next(_wrong_outputs(task), "")
        with redirect_stdout(_Bounded()):
            _run_tests(task)
        return ""
    except BaseException as error:  # also what leaves: SystemExit, KeyboardInterrupt
        return "".join(traceback.format_exception_only(error)).strip()[-DETAIL:] or "failed"


def _run_tests(task: Task) -> None:
    """Run tests in the program's namespace, then the functions test_... that they define."""
    solution = types.ModuleType("solution")
    sys.modules["solution"] = solution  # tests may import from it
    exec(compile(task.program, "program.py", "exec"), solution.__dict__)
    namespace = dict(solution.__dict__)
    exec(compile(task.tests, "tests.py", "exec"), namespace)
    for name, test in namespace.items():
        if name.startswith("test") and name not in solution.__dict__ and callable(test):
            test()


def _wrong_outputs(task: Task) -> Iterator[str]:
    code = compile(task.program, "program.py", "exec")
    for number, (given, wanted) in enumerate(task.examples, 1):
        sys.stdin = io.TextIOWrapper(io.BytesIO(given.encode()), encoding="utf-8")
        with redirect_stdout(_Bounded()) as out:
            try:
                exec(code, {"__name__": "__main__"})
            except SystemExit as leaving:
                if leaving.code not in (None, 0):
                    raise
        if out.getvalue().split() != wanted.split():
            yield f"example {number}: wrote {out.getvalue()[:100]!r}, not {wanted[:100]!r}"


class _Bounded(io.StringIO):
    """Output that is kept up to a size."""

    def write(self, text: str, /) -> int:
        if self.tell() + len(text) > MOST_OUTPUT:
            raise MemoryError(f"more than {MOST_OUTPUT:,} characters of output")
        return super().write(text)


if __name__ == "__main__":
    main(Limits(float(sys.argv[1]), float(sys.argv[2])), float(sys.argv[3]))
