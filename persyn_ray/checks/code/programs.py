"""Checks programs against unit tests in confined processes: responses and tests in, verdicts out.

A reference is Python that raises where the program is wrong: asserts, a call of HumanEval's
`check`, functions `test_...` (which may import from `solution`), or a JSON list of such texts, as
MBPP has them. Or it is a JSON list of `{"input": ..., "output": ...}` for programs that read
standard input; outputs are compared word by word. The program of a response is its last block of
Python.

A program that takes too long or too much is wrong, as in the field's own harnesses; a check that
could not be made (`crashed`) is unknown. What keeps a program in is described in `sandbox`; a
program that was written to deceive its own tests may do so, since they run in its process.
"""

import ast
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence

from persyn_ray.checks.code.program_worker import Ran, Task
from persyn_ray.checks.code.sandbox import why_unavailable
from persyn_ray.checks.verifier import CORRECT, CRASHED, NO_ANSWER, WRONG, Verdict
from persyn_ray.checks.worker_pool import WorkerPool
from persyn_ray.errors import ConfigError, StepError

WALL_TIMES = 4.0
"""Wall-clock limit over the limit of CPU time: programs that sleep, machines that are crowded."""
BLOCK = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.M | re.S)
_LANGUAGES = ("", "python", "python3", "py")


def program_of(response: str) -> str | None:
    """The program that a response writes: its last block of Python, or all of it if it parses."""
    blocks = [
        body
        for _, language, body in BLOCK.findall(response)
        if language.lower() in _LANGUAGES and body.strip()
    ]
    if blocks:
        return blocks[-1]
    return response if _parses(response) else None


def _parses(text: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(node, ast.Expr) for node in tree.body)


def task_of(program: str, reference: str) -> Task:
    """A program with its tests.

    Raises:
        ConfigError: the reference is neither tests in Python nor a list of inputs and outputs.
    """
    try:
        rows = json.loads(reference)
    except (ValueError, RecursionError):
        rows = None
    if isinstance(rows, list):
        if rows and all(isinstance(row, str) for row in rows):
            return Task(program, _parsed("\n".join(rows)), ())
        if rows and all(
            isinstance(row, dict) and {"input", "output"} <= row.keys() for row in rows
        ):
            return Task(program, "", tuple((str(r["input"]), str(r["output"])) for r in rows))
        raise ConfigError("it is a list, but not of tests or of inputs with outputs")
    return Task(program, _parsed(reference), ())


def _parsed(tests: str) -> str:
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
            is_empty = not ast.parse(tests).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"its tests are no Python: {error}") from error
    if is_empty:
        raise ConfigError("it holds no tests")
    return tests


def why_no_tests(reference: str) -> str | None:
    """What is wrong with a reference of `unit_tests`, or None."""
    try:
        task_of("", reference)
    except ConfigError as why:
        return str(why)
    return None


class Programs:
    """Runs programs against their tests; a context manager.

    Args:
        timeout_seconds: CPU time of a program with its tests; four times as long by the clock.
        memory_gib: address space of its process.
        num_processes: programs that run beside one another.

    Raises:
        ConfigError: this machine cannot confine programs.
    """

    def __init__(
        self, timeout_seconds: float = 5.0, memory_gib: float = 1.0, num_processes: int = 1
    ) -> None:
        why = why_unavailable()
        if why is not None:
            raise ConfigError(f"scoring.quality.kind unit_tests cannot be used here: {why}.")
        arguments = (timeout_seconds, memory_gib, WALL_TIMES * timeout_seconds)
        self._workers = WorkerPool([_Worker(*arguments) for _ in range(num_processes)])

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; a later check would start new ones."""
        self._workers.close()

    def check(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[Verdict, str | None]]:
        """Verdicts of (response, reference) pairs in order, with why a program is wrong.

        Raises:
            StepError: no process can be started; a single pair never raises.
        """
        return self._workers.map(self._check, pairs)

    def _check(self, pair: tuple[str, str]) -> tuple[Verdict, str | None]:
        program = program_of(pair[0])
        if program is None:
            return NO_ANSWER, None
        try:
            task = task_of(program, pair[1])
        except ConfigError as error:  # refused when prompts were read; this came another way
            return CRASHED, f"the reference: {error}"
        with self._workers.lend() as worker:
            ran = worker.ask(task)
        if ran is None:
            return CRASHED, "the process that runs programs died"
        return (CORRECT, None) if ran.passed else (WRONG, ran.detail)


class _Worker:
    """A process of `program_worker`, and the pipes to it."""

    def __init__(self, cpu_seconds: float, memory_gib: float, wall_seconds: float) -> None:
        self._arguments = [str(one) for one in (cpu_seconds, memory_gib, wall_seconds)]
        self._process: subprocess.Popen[str] | None = None

    def ask(self, task: Task) -> Ran | None:
        """What became of a program; None where the process itself died, twice."""
        request = json.dumps([task.program, task.tests, task.examples])
        for _ in range(2):
            if self._process is None:
                self._start()
            try:
                return Ran(*json.loads(self._talk(request)))
            except (OSError, ValueError):
                self.stop()
        return None

    def _talk(self, request: str | None) -> str:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if request is not None:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        return self._process.stdout.readline()

    def stop(self) -> None:
        """Kill the process, if there is one; its child dies with it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = None

    def _start(self) -> None:
        # Nothing of the environment: it may hold keys.
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1"}
        command = [sys.executable, "-m", "persyn_ray.checks.code.program_worker", *self._arguments]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,
        )
        if not self._talk(None):
            _, told = self._process.communicate()
            self._process = None
            raise StepError(f"The process that runs programs did not start: {told[-1000:]}")
