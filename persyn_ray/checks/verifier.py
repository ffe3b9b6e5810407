"""Verifies responses against references in a killable worker process with a time limit.

Two checks give the quality of one response, 1 (right) or 0 (wrong): `exact_match` compares the text
after a marker, `Verifier` compares mathematical answers with math-verify. Its parser and sympy run
for ever on some texts, and signal-based limits work in no thread but the main one, so such checks
run in processes that are killed at a wall-clock limit (see `worker`). Two plain numbers are
compared here, without a process. A check that did not end has quality null: unknown is neither
right nor wrong.

Responses that are absent are not judged here (outcome `no_response` is the stage's).
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from persyn_ray.checks.answer_numbers import quantity_of
from persyn_ray.checks.answer_text import canonical, is_prose
from persyn_ray.checks.final_answer import Answer, final_answer, reference_answer
from persyn_ray.checks.same_answer import reading, same_answer
from persyn_ray.checks.worker import READY
from persyn_ray.checks.worker_pool import WorkerPool
from persyn_ray.errors import StepError

# Importing sympy takes 1 s on an idle machine, ten times that on a crowded one.
START_SECONDS = 120.0
GRACE_SECONDS = 5.0  # past its limit a check is ended by its process, past this the process is
DEPTH = 16  # brackets within brackets that are read: the parser takes seconds for more

_MATHEMATICS = re.compile(r"[\d$\\\[]")  # there is no value in a text without one of these

# Formulas of programs, as LaTeX writes them: its names and its sign for a product.
_FUNCTION = re.compile(r"(?<![\\A-Za-z])(sin|cos|tan|log|ln|exp|pi)(?![A-Za-z])")


class Outcome(StrEnum):
    """How a check of one response ended."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"  # the response states none that can be read
    TIMED_OUT = "timed_out"  # the wall-clock limit came first
    CRASHED = "crashed"  # the checker failed or ran out of memory


@dataclass(frozen=True)
class Verdict:
    """How a check ended and the quality that follows: 1, 0, or None where the answer is unknown."""

    outcome: str  # an Outcome; qualities that are no check have words of their own
    quality: float | None


CORRECT = Verdict(Outcome.CORRECT, 1.0)
WRONG = Verdict(Outcome.WRONG, 0.0)
NO_ANSWER = Verdict(Outcome.NO_ANSWER, 0.0)  # an absent answer is not a right one
TIMED_OUT = Verdict(Outcome.TIMED_OUT, None)
CRASHED = Verdict(Outcome.CRASHED, None)
_VERDICTS = {
    verdict.outcome: verdict for verdict in (CORRECT, WRONG, NO_ANSWER, TIMED_OUT, CRASHED)
}


def exact_match(response: str, reference: str, marker: str) -> Verdict:
    """Compare the text after the last `marker` with the reference, in plain writing or by value."""
    answer = final_answer(response, marker)
    if answer is None:
        return NO_ANSWER
    gold = final_answer(reference, marker) or Answer(reference)
    line = Answer(answer.text.partition("\n")[0])
    said = answer if "\n" in gold.text.strip() else line
    return CORRECT if same_answer(said, gold.text) else WRONG


def is_legible(text: str) -> bool:
    """Whether math-verify could read a text in less than minutes."""
    return all(depth <= DEPTH for line in text.splitlines() for depth in _depths(line))


def _depths(line: str) -> Iterator[int]:
    depth = 0
    for character in line:
        depth += (character in "({[") - (character in ")}]")
        depth = max(depth, 0)
        yield depth


def _box(text: str) -> str:
    """An answer as math-verify reads it: the number that it is, else its own writing."""
    quantity = quantity_of(text)
    if quantity is None or quantity.is_clock:
        text = _FUNCTION.sub(r"\\\1", text.replace("*", "\\cdot "))
        return f"\\boxed{{{text}}}"
    value = quantity.value / 100 if quantity.unit == "%" else quantity.value
    if value.denominator == 1:
        return f"\\boxed{{{value.numerator}}}"
    sign = "-" if value < 0 else ""
    return f"\\boxed{{{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}}}"


class Verifier:
    """Checks mathematical answers in killable processes; a context manager.

    A process is started when one is first needed. What compares in it is killed after
    `timeout_seconds`, may hold `memory_gib`, and is replaced after `checks_per_process` checks,
    because sympy's caches only grow.
    """

    def __init__(
        self,
        timeout_seconds: float = 10.0,
        num_processes: int = 1,
        checks_per_process: int = 2_000,
        memory_gib: float = 2.0,
    ) -> None:
        arguments = (timeout_seconds, memory_gib, checks_per_process)
        self._workers = WorkerPool([_Worker(*arguments) for _ in range(num_processes)])

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; a later check would start new ones."""
        self._workers.close()

    def check(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Verdicts of (response, reference) pairs, in order.

        Raises:
            StepError: no checking process can be started; a single bad pair never raises.
        """
        return [_VERDICTS[outcome] for outcome in self._workers.map(self._check, pairs)]

    def check_references(self, references: Sequence[str]) -> list[int]:
        """Positions of the references that hold no answer to compare with."""
        readable = self._workers.map(self._is_readable, references)
        return [index for index, is_readable in enumerate(readable) if not is_readable]

    def _check(self, pair: tuple[str, str]) -> str:
        answer, gold = final_answer(pair[0]), reference_answer(pair[1])
        if answer is None:
            return Outcome.NO_ANSWER
        is_same = same_answer(answer, gold)
        if is_same:
            return Outcome.CORRECT
        if not answer.is_marked and not _MATHEMATICS.search(answer.text):
            return Outcome.WRONG if is_prose(canonical(gold)) else Outcome.NO_ANSWER
        if is_same is not None:
            return Outcome.WRONG
        plain = canonical(gold)
        return self._compare(reading(answer, plain), plain)

    def _compare(self, answer: str, gold: str) -> str:
        if not is_legible(answer):
            return Outcome.NO_ANSWER
        return self._ask((_box(answer),), (_box(gold),))

    def _is_readable(self, reference: str) -> bool:
        gold = canonical(reference_answer(reference))
        if quantity_of(gold) is not None or is_prose(gold):
            return True
        # A check that did not end says nothing against the reference: the machine may be crowded.
        return self._ask((), (_box(gold),)) not in (Outcome.NO_ANSWER, Outcome.CRASHED)

    def _ask(self, answers: tuple[str, ...], golds: tuple[str, ...]) -> str:
        with self._workers.lend() as worker:
            return worker.ask(answers, golds)


class _Worker:
    """One checking process (see `worker`) and the socket to it."""

    def __init__(self, timeout_seconds: float, memory_gib: float, checks: int) -> None:
        self._timeout = timeout_seconds
        self._arguments = [str(timeout_seconds), str(memory_gib), str(checks)]
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def ask(self, answers: tuple[str, ...], golds: tuple[str, ...]) -> str:
        """Outcome of one check; `timed_out` or `crashed` when the process had to be given up."""
        if self._socket is None:
            self._start()
        assert self._socket is not None
        # Texts may hold half a surrogate pair, which UTF-8 proper cannot.
        request = json.dumps((answers, golds), ensure_ascii=False).encode("utf-8", "surrogatepass")
        try:
            self._socket.settimeout(self._timeout + GRACE_SECONDS)
            self._socket.send(request)
            outcome = self._socket.recv(64).decode()
        except TimeoutError:
            self.stop()
            return Outcome.TIMED_OUT
        except OSError:
            outcome = ""
        if not outcome:  # the process is dead
            self.stop()
        return outcome or Outcome.CRASHED

    def stop(self) -> None:
        """Kill the process, if there is one; what it forked dies with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._socket is not None:
            self._socket.close()
        self._process = self._socket = None

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        descriptor = theirs.fileno()
        command = [sys.executable, "-m", "persyn_ray.checks.worker", str(descriptor)]
        # The parent's import path, as Ray and virtual environments have shaped it.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with tempfile.TemporaryFile() as complaints, theirs:
            # A session of its own keeps Ctrl-C, meant for the run, away from the process.
            try:
                self._process = subprocess.Popen(
                    command + self._arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=complaints,
                    stderr=complaints,
                    env=environment,
                    pass_fds=(descriptor,),
                    start_new_session=True,
                )
            except OSError as error:  # no memory or no processes left
                self.stop()
                raise StepError(
                    f"No process that checks answers can be started: {error}"
                ) from error
            theirs.close()  # else a process that dies would not be noticed
            why = self._why_not_ready()
            if why is not None:
                self.stop()
                complaints.seek(0)
                tail = complaints.read().decode(errors="replace")[-2_000:]
                raise StepError(
                    f"The process that checks answers did not start: {why}. {tail}\n"
                    "scoring.quality.kind exact_answer needs the package math-verify."
                )

    def _why_not_ready(self) -> str | None:
        assert self._socket is not None
        self._socket.settimeout(START_SECONDS)
        try:
            return None if self._socket.recv(64) == READY else "it died"
        except TimeoutError:
            return f"not ready in {START_SECONDS:.0f} s"
        except OSError as error:
            return str(error)
