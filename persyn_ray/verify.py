"""Is a response right? Exact checks that cannot hang or kill the run.

Two checks give the quality of one response, 1 (right) or 0 (wrong): `exact_match` compares the text
after a marker, `Verifier` compares mathematical answers with math-verify. Its parser and sympy run
for ever on some texts, and signal-based limits work in no thread but the main one, so such checks
run in processes that are killed at a wall-clock limit (see `verify_worker`). Two plain numbers are
compared here, without a process. A check that did not end has quality null: unknown is neither
right nor wrong.

Responses that are absent are not judged here (outcome `no_response` is the stage's).
"""

import json
import os
import queue
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from persyn_ray.errors import StepError
from persyn_ray.verify_worker import READY

# Importing sympy takes 1 s on an idle machine, ten times that on a crowded one.
START_SECONDS = 120.0
GRACE_SECONDS = 5.0  # past its limit a check is ended by its process, past this the process is
TAIL = 4_000  # characters searched for an answer that no marker announces; it stands at the end
ANSWER = 2_000  # longest text taken as an answer behind a marker
DEPTH = 16  # brackets within brackets that are read: the parser takes seconds for more

_MARKER = "####"
_NUMBER = re.compile(r"([-+]?)\$?(\d{1,3}(?:,\d{3})+|\d+)?(\.\d+)?")
_MATHEMATICS = re.compile(r"[\d$\\\[]")  # math-verify finds nothing in a text without one of these

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


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
    """Compare the text after the last `marker`, stripped, with the reference."""
    _, found, answer = response.rpartition(marker)
    if not found or not answer.strip():
        return NO_ANSWER
    return CORRECT if answer.strip() == reference.strip() else WRONG


def readings(text: str, is_reference: bool = False) -> tuple[str, ...]:
    r"""Where the answer of a text stands: texts to try in order, the first parsable one counts.

    The answer is what follows the last `####`, else the last `\boxed{}`, else the last expression
    of the text. `####` is also a heading in Markdown: it announces the answer only where its line
    is a plain number or the last one. Formulas without any mark are read only in references.
    """
    _, found, rest = text.rpartition(_MARKER)
    line, _, after = rest.strip().partition("\n")
    line = line[:ANSWER].strip()
    if found and line and (plain_number(line) is not None or not after.strip()):
        return line, _box(line)
    boxed = _last_boxed(text)
    if boxed is not None:
        return (boxed, boxed) if plain_number(boxed) is not None else (_box(boxed), boxed)
    tail = text[-TAIL:].strip()
    if is_reference and plain_number(tail) is None and "$" not in tail:
        return _box(tail), tail
    return (tail,)


def plain_number(text: str) -> Decimal | None:
    """The value of a text that is nothing but a number (`-1,200.50`, `$72`, `72.`), else None."""
    text = text.strip().removesuffix(".")
    # A short text keeps the regular expression and the arithmetic cheap whatever stands in it.
    match = _NUMBER.fullmatch(text) if len(text) <= 64 and text.isascii() else None
    if match is None or not (match[2] or match[3]):
        return None
    sign, whole, fraction = match[1], match[2] or "0", match[3] or ""
    return Decimal(f"{sign}{whole.replace(',', '')}{fraction}")


def is_legible(text: str) -> bool:
    """Whether math-verify could find an answer in a text, and in less than minutes."""
    return bool(_MATHEMATICS.search(text)) and all(
        depth <= DEPTH for line in text.splitlines() for depth in _depths(line)
    )


def _depths(line: str) -> Iterator[int]:
    depth = 0
    for character in line:
        depth += (character in "({[") - (character in ")}]")
        depth = max(depth, 0)
        yield depth


def _box(text: str) -> str:
    return f"\\boxed{{{text}}}"


def _last_boxed(text: str) -> str | None:
    r"""What the last `\boxed{…}` holds; None without one, or where its braces do not close."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    start, depth = start + len("\\boxed{"), 1
    for index, character in enumerate(text[start : start + ANSWER]):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[start : start + index]
    return None


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
        self._workers = [_Worker(*arguments) for _ in range(num_processes)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; a later check would start new ones."""
        for worker in self._workers:
            worker.stop()

    def check(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Verdicts of (response, reference) pairs, in order.

        Raises:
            StepError: no checking process can be started; a single bad pair never raises.
        """
        return [_VERDICTS[outcome] for outcome in self._map(self._check, pairs)]

    def check_references(self, references: Sequence[str]) -> list[int]:
        """Positions of the references that hold no answer to compare with."""
        readable = self._map(self._is_readable, references)
        return [index for index, is_readable in enumerate(readable) if not is_readable]

    def _check(self, pair: tuple[str, str]) -> str:
        answers, golds = readings(pair[0]), readings(pair[1], is_reference=True)
        if not is_legible("\n".join(answers)):
            return Outcome.NO_ANSWER
        number, gold_number = plain_number(answers[0]), plain_number(golds[0])
        if number is not None and gold_number is not None:
            return Outcome.CORRECT if number == gold_number else Outcome.WRONG
        return self._ask(answers, golds)

    def _is_readable(self, reference: str) -> bool:
        golds = readings(reference, is_reference=True)
        if plain_number(golds[0]) is not None:
            return True
        # A check that did not end says nothing against the reference: the machine may be crowded.
        return self._ask((), golds) not in (Outcome.NO_ANSWER, Outcome.CRASHED)

    def _ask(self, answers: tuple[str, ...], golds: tuple[str, ...]) -> str:
        worker = self._idle.get()
        try:
            return worker.ask(answers, golds)
        finally:
            self._idle.put(worker)

    def _map(self, function: Callable[[_Item], _Answer], items: Sequence[_Item]) -> list[_Answer]:
        if len(self._workers) == 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(len(self._workers)) as threads:
            return list(threads.map(function, items))


class _Worker:
    """One checking process (see `verify_worker`) and the socket to it."""

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
        command = [sys.executable, "-m", "persyn_ray.verify_worker", str(descriptor)]
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
