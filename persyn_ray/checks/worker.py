"""Worker process that compares mathematical answers; `verifier.Verifier` starts and kills it.

It imports math-verify and sympy once (1 s on an idle machine) and forks a child that does the
comparing. A child is killed when a check takes longer than its wall-clock limit, dies when it asks
for more memory than its own limit, and is replaced after so many checks because sympy's caches only
grow; the next one is a fork of this warm process, so any of that costs milliseconds. Forking is
safe here: one thread, neither torch nor ray, no open files but the sockets.

A request is `[answer texts, reference texts]` in JSON, one packet; the reply is one word of
`verifier.Outcome`. Without answer texts it says whether the reference can be parsed (correct) or
not (no_answer). Nothing outlives its parent: this process ends when its socket is closed, also
during a check, and the system kills a child whose parent is gone.
"""

import ctypes
import functools
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

READY = b"ready"
LARGEST = 2**18  # bytes of a packet; `verifier.readings` keeps texts to a third of it
_PR_SET_PDEATHSIG = 1

# The parser learns its grammar from what it reads, up to 0.2 s for a construct it never met; read
# before the first fork, that is known to every child.
WARM_UP = (
    "$\\frac{1}{2}$",
    "\\boxed{(x+1)^2 - 2x}",
    "\\boxed{-\\sqrt{2} \\cdot 3^{10}}",
    "\\boxed{\\{1,2,3\\}}",
    "\\boxed{((1,2))}",
    "\\boxed{(1,2] \\cup [3,4)}",
    "\\boxed{\\begin{pmatrix}1 & 2 \\\\ 3 & 4\\end{pmatrix}}",
    "\\boxed{x \\le 3}",
    "\\boxed{y = 2x+1}",
    "\\boxed{\\sin(x)+\\log_2 8+\\ln(x)}",
    "\\boxed{\\sum_{k=1}^{5} k!}",
    "\\boxed{|x|+\\pi+a_{1}}",
    "\\boxed{\\left(1+\\binom{4}{2}\\right) \\times 7\\text{ cm}}",
    "\\boxed{50\\%}",
    "The answer is 1/2.",
)


def main(descriptor: int, timeout_seconds: float, memory_gib: float, checks: int) -> None:
    """Answer requests until the socket is closed."""
    asker = socket.socket(fileno=descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # children crash as a matter of course
    _silence()
    for text in WARM_UP:
        _outcome((text,), ("x^2+1",))
    _parsed_reference.cache_clear()
    gc.freeze()  # the collector of a child would otherwise copy every page it shares with us
    asker.send(READY)
    child, done = None, 0
    while request := asker.recv(LARGEST):
        if child is None or done >= checks:
            child = _replaced(child, asker, memory_gib)
            done = 0
        outcome = child.ask(request, asker, timeout_seconds)
        done = checks if outcome in ("timed_out", "crashed") else done + 1
        asker.send(outcome.encode())


class _Child:
    """A fork of this process that compares, and the socket to it."""

    def __init__(self, asker: socket.socket, memory_gib: float) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                asker.close()
                self._socket.close()
                _serve(theirs, memory_gib, parent)
            finally:
                os._exit(0)
        theirs.close()

    def ask(self, request: bytes, asker: socket.socket, timeout_seconds: float) -> str:
        """Its outcome; `timed_out` past the wall-clock limit, `crashed` from a dead child."""
        try:
            self._socket.send(request)
            ready, _, _ = select.select([self._socket, asker], [], [], timeout_seconds)
            if asker in ready:  # closed: nobody waits for this answer
                sys.exit()
            if not ready:
                return "timed_out"
            return self._socket.recv(LARGEST).decode() or "crashed"
        except OSError:
            return "crashed"

    def end(self) -> None:
        """Kill it and take its exit code, so that no dead process stays behind."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._socket.close()


def _replaced(old: _Child | None, asker: socket.socket, memory_gib: float) -> _Child:
    if old is not None:
        old.end()
    return _Child(asker, memory_gib)


def _serve(requests: socket.socket, memory_gib: float, parent: int) -> None:
    """The child's loop."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        return
    limit = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while request := requests.recv(LARGEST):
        answers, golds = json.loads(request.decode("utf-8", "surrogatepass"))
        requests.send(_outcome(answers, golds).encode())


def _outcome(answers: Sequence[str], golds: Sequence[str]) -> str:
    try:
        return compare(answers, golds)
    except Exception:  # whatever a parser may raise, lack of memory included; it stays unknown
        return "crashed"


def compare(answers: Sequence[str], golds: Sequence[str]) -> str:
    """Outcome of one comparison; raises what math-verify raises where it could not decide."""
    from math_verify import verify

    gold = _parsed_reference(tuple(golds))
    if not answers:
        return "correct" if any(not isinstance(value, str) for value in gold) else "no_answer"
    if not gold:
        raise ValueError("the reference holds no answer")  # then nothing is right or wrong
    answer = _parse(answers)
    if not answer:
        return "no_answer"
    failure: Exception | None = None
    for gold_value in gold:
        for value in answer:
            try:
                # The reference goes first: the comparison is not symmetric.
                if verify(gold_value, value, timeout_seconds=None, raise_on_error=True):
                    return "correct"
            except Exception as error:
                failure = error
    if failure is not None:
        raise failure
    return "wrong"


@functools.lru_cache(maxsize=64)
def _parsed_reference(texts: tuple[str, ...]) -> list[Any]:
    """The same reference comes once for every teacher."""
    return _parse(texts)


def _parse(texts: Sequence[str]) -> list[Any]:
    """What math-verify makes of the first text it can read; its own time limits need signals."""
    from math_verify import parse

    found: list[Any] = []
    for text in texts:
        found = parse(text, parsing_timeout=None, raise_on_error=True) or found  # pyright: ignore[reportArgumentType]
        if any(not isinstance(value, str) for value in found):
            break
    return found


def _silence() -> None:
    """Keep what libraries print out of a log that would grow for ever."""
    import math_verify  # noqa: F401  (its import may still complain)

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
