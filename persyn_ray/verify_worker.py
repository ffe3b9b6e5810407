"""The process that compares mathematical answers; `verify.Verifier` starts and kills it.

Reads `[answer texts, reference texts]` as JSON behind a four-byte length, writes one outcome a
line: correct, wrong, no_answer or crashed. Without answer texts it says whether the reference can
be parsed (correct) or not (no_answer). It imports neither torch nor ray, and ends when its input
does.
"""

import json
import os
import resource
import sys
from collections.abc import Sequence
from typing import Any


def main(timeout_seconds: float, memory_gib: float) -> None:
    """Answer requests until the input ends."""
    limit = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    _silence()
    _parse(["$\\frac{1}{2}$", "1"])  # builds the grammars now rather than on somebody's time
    while len(header := sys.stdin.buffer.read(4)) == 4:
        answers, golds = json.loads(sys.stdin.buffer.read(int.from_bytes(header, "big")))
        _allow_cpu(timeout_seconds + 5)
        replies.write(_outcome(answers, golds) + "\n")


def _outcome(answers: Sequence[str], golds: Sequence[str]) -> str:
    try:
        return compare(answers, golds)
    except MemoryError:
        os._exit(1)  # the heap is in no state to go on with
    except Exception:  # whatever a parser may raise; this answer stays unknown
        return "crashed"


def compare(answers: Sequence[str], golds: Sequence[str]) -> str:
    """Outcome of one comparison; raises what math-verify raises where it could not decide."""
    from math_verify import verify

    gold = _parse(golds)
    if not answers:
        return "correct" if any(not isinstance(value, str) for value in gold) else "no_answer"
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
    """Keep what libraries print out of the replies, and out of a log that grows for ever."""
    import math_verify  # noqa: F401  (its import may still complain)

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _allow_cpu(seconds: float) -> None:
    """Let the system end this process should its parent die during an endless check."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    if most == resource.RLIM_INFINITY or soft < most:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, most))


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
