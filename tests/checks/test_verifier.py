"""Verdicts on answers: right ones, wrong ones, and texts that would hang or kill a checker."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persyn_ray.checks.final_answer import final_answer
from persyn_ray.checks.verifier import (
    CORRECT,
    CRASHED,
    DEPTH,
    NO_ANSWER,
    TIMED_OUT,
    WRONG,
    Outcome,
    Verdict,
    Verifier,
    exact_match,
    is_legible,
)
from persyn_ray.errors import StepError

from .hostile import hostile_strings

DATA = Path(__file__).parents[2] / "../shared/data/gsm8k_parallel.parquet"


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(timeout_seconds=10) as checking:
        yield checking


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        ("1+1=2;2+6=8#8", CORRECT),
        ("8#9# 8 ", CORRECT),
        ("8#9", WRONG),
        ("8", NO_ANSWER),
        ("8#", NO_ANSWER),
        ("", NO_ANSWER),
    ],
)
def test_exact_match_reads_what_follows_the_last_marker(response: str, verdict: Verdict) -> None:
    assert exact_match(response, "8", "#") == verdict


def test_unknown_outcomes_have_no_quality_and_known_ones_are_binary() -> None:
    assert [CORRECT.quality, WRONG.quality, NO_ANSWER.quality] == [1.0, 0.0, 0.0]
    assert [TIMED_OUT.quality, CRASHED.quality] == [None, None]


def test_outcomes_are_words_in_tables() -> None:
    assert [str(outcome) for outcome in Outcome] == [
        "correct",
        "wrong",
        "no_answer",
        "timed_out",
        "crashed",
    ]
    assert pa.array([TIMED_OUT.outcome, "scored"], pa.string()).to_pylist() == [
        "timed_out",
        "scored",
    ]


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("\\frac{1}{1+\\frac{1}{1+\\frac{1}{2}}}", True),
        ("(1,2] \\cup (3,4] \\cup (5,6]" * 50, True),
        ("x + y", True),
        ("it is ٣", True),
        ("(" * DEPTH + "1" + ")" * DEPTH, True),
        ("(" * (DEPTH + 1) + "1" + ")" * (DEPTH + 1), False),
        ("a smile :(\n" * 2 * DEPTH + "72", True),
    ],
)
def test_what_no_parser_could_read_is_told_apart(text: str, is_read: bool) -> None:
    assert is_legible(text) == is_read


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("so 5\n#### 72", "72"),
        ("#### 72\nI hope this helps with 3 things", "72"),
        ("#### Step 2\nsix\n\\boxed{7}", "\\boxed{7}".removeprefix("\\boxed{").removesuffix("}")),
        ("#### 72 clips", "72 clips"),
        ("first \\boxed{1}, then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{1", "1"),
        ("it is 4", "4"),
        (" ", None),
    ],
)
def test_where_an_answer_stands(text: str, first: str | None) -> None:
    answer = final_answer(text)
    assert (None if answer is None else answer.text) == first


def test_plain_numbers_need_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persyn_ray.checks.verifier.sys.executable", "/no/such/python")
    with Verifier() as checking:
        pairs = [("#### 1,200", "1200"), ("\\boxed{3}", "#### 4"), ("", "5"), ("#### 2.0", "2")]
        assert checking.check(pairs) == [CORRECT, WRONG, NO_ANSWER, CORRECT]
        assert checking.check_references(["1", "$2"]) == []


@pytest.mark.parametrize(
    ("response", "reference", "verdict"),
    [
        ("The answer is 54.", "54", CORRECT),
        ("The answer is 54.", "55", WRONG),
        ("#### 72 clips", "72", CORRECT),
        ("A: 72", "72", CORRECT),
        ("It costs $1,200 in total", "1200", CORRECT),
        ("so \\boxed{\\frac{1}{2}}", "0.5", CORRECT),
        ("so $\\frac{1}{2}$", "1/2", CORRECT),
        ("\\boxed{x^2+2x+1}", "(x+1)^2", CORRECT),
        ("\\boxed{x^2+1}", "x^2+2", WRONG),
        ("#### x+y", "y+x", CORRECT),
        ("\\boxed{x}", "x", CORRECT),
        ("\\boxed{\\text{even}}", "\\text{even}", CORRECT),
        ("#### 50%", "\\frac{1}{2}", CORRECT),
        ("\\boxed{(1,2)}", "(1,2)", CORRECT),
        ("I cannot tell.", "3", NO_ANSWER),
    ],
)
def test_mathematical_answers(
    verifier: Verifier, response: str, reference: str, verdict: Verdict
) -> None:
    assert verifier.check([(response, reference)]) == [verdict]


def test_references_without_an_answer_are_found(verifier: Verifier) -> None:
    references = ["72", "", "\\frac{1}{2}", "???", "x+1"]
    assert verifier.check_references(references) == [1, 3]


def test_verdicts_agree_with_the_published_ones(verifier: Verifier) -> None:
    if not DATA.is_file():
        pytest.skip(f"{DATA.name} is not here")
    rows = random.Random(0).sample(pq.read_table(DATA).to_pylist(), 300)
    verdicts = verifier.check([(row["response"], row["answer"]) for row in rows])
    agreed = [
        (verdict.quality == 1.0) == row["is_correct"]
        for verdict, row in zip(verdicts, rows, strict=True)
    ]
    # Measured on all 7,914: 0.9925; most of the rest are "$20.00" for 20, published as wrong.
    assert sum(agreed) / len(agreed) >= 0.97
    assert {verdict.outcome for verdict in verdicts} <= {"correct", "wrong", "no_answer"}


def test_hostile_texts_get_one_verdict_each_and_harm_nobody() -> None:
    hostile = [
        "\\boxed{" + "{" * 10_000 + "}" * 10_000 + "}",
        "$" + "{" * 10_000 + "1" + "}" * 10_000 + "$",
        "\\boxed{9^{9^{9^{9}}}}",
        "1 " * 500_000,
        "x" * 1_000_000,
        "\\boxed{" + "\\frac{1}{" * 500 + "2" + "}" * 500 + "}",
        "1/" * 2_000 + "1",
        "$" * 4_000,
        "(" * 4_000,
        "\\boxed{\x00\x001}",
        "#### \ud800 7",
        "#### " + "9" * 2_000,
        "\\sqrt" * 1_000,
    ]
    pairs = [pair for text in hostile for pair in ((text, "x+7"), ("\\boxed{x+7}", "x+7"))]
    start = time.monotonic()
    with Verifier(timeout_seconds=1.0, num_processes=2) as checking:
        verdicts = checking.check(pairs)
    assert len(verdicts) == len(pairs)
    # The text after each hostile one is judged as ever; a crowded machine may need its time-out.
    assert {verdict.outcome for verdict in verdicts[1::2]} <= {"correct", "timed_out"}
    assert sum(verdict == CORRECT for verdict in verdicts[1::2]) > len(hostile) / 2
    assert CORRECT not in verdicts[::2]
    assert time.monotonic() - start < 600


def test_thousands_of_hostile_texts_lose_no_row_and_no_plain_answer() -> None:
    texts = [text for text in hostile_strings(4_000, seed=1) if text.family != "bomb"]
    # One in ten of the slow families: the benchmark takes them all.
    texts = [text for n, text in enumerate(texts) if text.expected or n % 10 == 0]
    start = time.monotonic()
    with Verifier(timeout_seconds=1.0, num_processes=2) as checking:
        verdicts = checking.check([(text.response, text.reference) for text in texts])
    assert time.monotonic() - start < 600
    assert len(verdicts) == len(texts)
    known = [(v, t) for v, t in zip(verdicts, texts, strict=True) if t.expected is not None]
    assert len(known) > 1_000
    # A crowded machine may need the time-out of a second for a plain answer, never a wrong verdict.
    assert {verdict.outcome for verdict, text in known if verdict.outcome != text.expected} <= {
        Outcome.TIMED_OUT
    }


def test_equal_seeds_give_equal_hostile_texts() -> None:
    assert list(hostile_strings(50, 3)) == list(hostile_strings(50, 3))
    assert list(hostile_strings(50, 3)) != list(hostile_strings(50, 4))


def pid_of(checking: Verifier) -> int:
    process = checking._workers.workers[0]._process
    assert process is not None
    return process.pid


def children_of(pid: int) -> list[int]:
    """Processes whose parent is `pid`, dead ones that nobody waited for included."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == pid:
            found.append(int(folder.name))
    return found


def is_gone(pid: int, seconds: float = 90.0) -> bool:
    """Whether a process ends within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]:
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


PAIR = ("$y+1$", "1+y")  # right, which takes algebra and so a process
BOMB = ("\\boxed{9^{9^{9^{9}}}}", "x+7")


def test_a_check_without_end_is_killed_at_its_limit_and_the_next_one_is_judged() -> None:
    with Verifier(timeout_seconds=3.0) as checking:
        assert checking.check([PAIR]) == [CORRECT]
        process, (child,) = pid_of(checking), children_of(pid_of(checking))
        start = time.monotonic()
        assert checking.check([BOMB, PAIR]) == [TIMED_OUT, CORRECT]
        assert time.monotonic() - start < 60
        assert pid_of(checking) == process
        assert children_of(process) != [child]
        assert len(children_of(process)) == 1


def test_a_process_that_does_not_keep_its_limit_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("persyn_ray.checks.verifier.GRACE_SECONDS", 0.5)
    with Verifier(timeout_seconds=3.0) as checking:
        assert checking.check([PAIR]) == [CORRECT]
        os.kill(pid_of(checking), signal.SIGSTOP)
        assert checking.check([PAIR, PAIR]) == [TIMED_OUT, CORRECT]


def test_a_check_that_wants_more_memory_than_it_may_have_harms_nobody() -> None:
    with Verifier(memory_gib=0.5, timeout_seconds=30) as checking:
        hungry = ("$7$", "\\frac{1}{2}" + "x" * 100), ("\\boxed{2^{99999999999}}", "x+7")
        verdicts = checking.check([*hungry, PAIR])
        assert verdicts[-1] == CORRECT
        assert CORRECT not in verdicts[:-1]
        (child,) = children_of(pid_of(checking))
        limits = Path(f"/proc/{child}/limits").read_text()
        assert str(2**29) in next(line for line in limits.splitlines() if "address space" in line)


def test_a_killed_process_costs_one_verdict(verifier: Verifier) -> None:
    for victim in (pid_of, lambda checking: children_of(pid_of(checking))[0]):
        assert verifier.check([PAIR]) == [CORRECT]
        os.kill(victim(verifier), signal.SIGKILL)
        assert verifier.check([PAIR, PAIR]) == [CRASHED, CORRECT]


def test_processes_are_replaced_after_their_checks_and_ended_at_the_close() -> None:
    with Verifier(checks_per_process=2) as checking:
        seen: list[int] = []
        for _ in range(3):
            assert checking.check([PAIR]) == [CORRECT]
            seen += children_of(pid_of(checking))
        process = pid_of(checking)
    assert len(seen) == 3
    assert len(set(seen)) == 2
    assert all(is_gone(pid) for pid in (process, *seen))


@pytest.mark.parametrize("is_busy", [False, True])
def test_no_process_outlives_the_one_that_asked(is_busy: bool) -> None:
    code = (
        "import sys\n"
        "from persyn_ray.checks.verifier import Verifier\n"
        "checking = Verifier(timeout_seconds=100)\n"
        "checking.check([('$y+1$', '1+y')])\n"
        "print(checking._workers.workers[0]._process.pid, flush=True)\n"
        f"checking.check([{BOMB!r}]) if {is_busy} else sys.stdin.read()\n"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert asking.stdout is not None
    process = int(asking.stdout.readline())
    (child,) = children_of(process)
    time.sleep(0.5)  # let the check begin
    asking.kill()
    asking.communicate()
    assert is_gone(process)
    assert is_gone(child)


def test_a_checker_that_cannot_start_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho No module named math_verify >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("persyn_ray.checks.verifier.sys.executable", str(python))
    with Verifier() as checking, pytest.raises(StepError, match="No module named math_verify"):
        checking.check([PAIR])
