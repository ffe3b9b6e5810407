"""Is a response right? Exact checks that cannot hang or kill the run.

Two checks give the quality of one response, 1 (right) or 0 (wrong): `exact_match` compares the text
after a marker, `Verifier` compares mathematical answers with math-verify. Its parser and sympy run
for ever on some texts, and signal-based limits work in no thread but the main one, so every such
check runs in a process of its own that is killed at a wall-clock limit. Two plain numbers are
compared here, without a process. A check that did not end has quality null: unknown is neither
right nor wrong.

Responses that are absent are not judged here (outcome `no_response` is the stage's).
"""

import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from persyn_ray.errors import StepError

START_SECONDS = (
    120.0  # importing sympy takes 1 s on an idle machine, ten times that on a crowded one
)
TAIL = 4_000  # characters searched for an answer that no marker announces; it stands at the end
ANSWER = 2_000  # longest text taken as an answer behind a marker

_MARKER = "####"
_NUMBER = re.compile(r"([-+]?)\$?(\d{1,3}(?:,\d{3})+|\d+)?(\.\d+)?")


@dataclass(frozen=True)
class Verdict:
    """How a check ended and the quality that follows: 1, 0, or None where the answer is unknown."""

    outcome: str  # correct | wrong | no_answer | timed_out | crashed
    quality: float | None


CORRECT = Verdict("correct", 1.0)
WRONG = Verdict("wrong", 0.0)
NO_ANSWER = Verdict("no_answer", 0.0)  # an absent answer is not a right one
TIMED_OUT = Verdict("timed_out", None)
CRASHED = Verdict("crashed", None)
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

    A process is started when one is first needed, replaced after a time-out or a crash, and after
    `checks_per_process` checks, because sympy's caches only grow.
    """

    def __init__(
        self,
        timeout_seconds: float = 10.0,
        num_processes: int = 1,
        checks_per_process: int = 2_000,
        memory_gib: float = 2.0,
    ) -> None:
        arguments = (timeout_seconds, checks_per_process, memory_gib)
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
        if not answers[0]:
            return NO_ANSWER.outcome
        number, gold_number = plain_number(answers[0]), plain_number(golds[0])
        if number is not None and gold_number is not None:
            return (CORRECT if number == gold_number else WRONG).outcome
        return self._ask(answers, golds)

    def _is_readable(self, reference: str) -> bool:
        golds = readings(reference, is_reference=True)
        return plain_number(golds[0]) is not None or self._ask((), golds) == CORRECT.outcome

    def _ask(self, answers: tuple[str, ...], golds: tuple[str, ...]) -> str:
        worker = self._idle.get()
        try:
            return worker.ask(answers, golds)
        finally:
            self._idle.put(worker)

    def _map(self, function: Any, items: Sequence[Any]) -> list[Any]:
        if len(self._workers) == 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(len(self._workers)) as threads:
            return list(threads.map(function, items))


class _Worker:
    """One checking process (see `verify_worker`) and its wall-clock limit."""

    def __init__(self, timeout_seconds: float, checks: int, memory_gib: float) -> None:
        self._timeout, self._checks, self._memory_gib = timeout_seconds, checks, memory_gib
        self._process: subprocess.Popen[bytes] | None = None
        self._num_checks = 0

    def ask(self, answers: tuple[str, ...], golds: tuple[str, ...]) -> str:
        """Outcome of one check; `timed_out` or `crashed` when the process had to be given up."""
        if self._process is None or self._num_checks >= self._checks:
            self._start()
        self._num_checks += 1
        outcome, was_killed = self._exchange((answers, golds), self._timeout)
        if was_killed or outcome is None:
            self.stop()
        # An answer that arrived in the instant of the kill still counts.
        return outcome or (TIMED_OUT if was_killed else CRASHED).outcome

    def stop(self) -> None:
        """Kill the process, if there is one."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()  # pyright: ignore[reportOptionalMemberAccess]
            except OSError:  # bytes that the dead process never read
                continue
        self._process = None

    def _start(self) -> None:
        self.stop()
        command = [sys.executable, "-m", "persyn_ray.verify_worker"]
        command += [str(self._timeout), str(self._memory_gib)]
        # The parent's import path, as Ray and virtual environments have shaped it.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with tempfile.TemporaryFile() as complaints:
            # A session of its own keeps Ctrl-C, meant for the run, away from the process.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=environment,
                start_new_session=True,
            )
            self._num_checks = 0
            hello, was_killed = self._exchange(((), ("1",)), START_SECONDS)
            if hello is None:
                self.stop()
                complaints.seek(0)
                why = f"not ready in {START_SECONDS:.0f} s" if was_killed else "it died"
                tail = complaints.read().decode(errors="replace")[-2_000:]
                raise StepError(
                    f"The process that checks answers did not start: {why}. {tail}\n"
                    "scoring.quality.kind exact_answer needs the package math-verify."
                )

    def _exchange(self, message: Any, limit: float) -> tuple[str | None, bool]:
        """Send a message; return the reply (None from a dead process) and whether time was up."""
        process, killed = self._process, threading.Event()
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None

        def kill() -> None:  # ends a blocked write as well as a blocked read
            killed.set()
            process.kill()

        timer = threading.Timer(limit, kill)
        timer.start()
        try:
            data = json.dumps(message).encode()  # escapes what UTF-8 cannot hold
            process.stdin.write(len(data).to_bytes(4, "big") + data)
            process.stdin.flush()
            reply = process.stdout.readline().decode().strip() or None
        except OSError:
            reply = None
        finally:
            timer.cancel()
            timer.join()
        return reply, killed.is_set()
