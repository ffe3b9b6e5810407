"""Programs against their tests: right ones, wrong ones, and those that would hang or leave."""

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from persyn_ray.checks.code.programs import Programs, program_of, why_no_tests
from persyn_ray.checks.verifier import CORRECT, NO_ANSWER, WRONG, Verdict

from .hostile_programs import ESCAPES, HARMLESS, hostile_program

ADD = "def add(a, b):\n    return a + b\n"
ASSERTS = "assert add(1, 2) == 3\nassert add('a', 'b') == 'ab'"


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with Programs(timeout_seconds=1, memory_gib=1) as checking:
        yield checking


def block(code: str) -> str:
    return f"Here it is:\n\n```python\n{code}\n```\nIt adds."


def verdict(programs: Programs, response: str, reference: str) -> tuple[Verdict, str]:
    ((found, detail),) = programs.check([(response, reference)])
    return found, detail or ""


@pytest.mark.parametrize(
    "reference",
    [
        ASSERTS,
        json.dumps(ASSERTS.splitlines()),  # MBPP
        "def check(f):\n    assert f(2, 2) == 4\n\ncheck(add)",  # HumanEval
        "from solution import add\n\ndef test_add():\n    assert add(1, 1) == 2",  # KodCode
        "import unittest\nfrom solution import add\nassert add(0, 0) == 0",
    ],
)
def test_a_right_program_passes_and_a_wrong_one_fails_in_every_form_of_tests(
    programs: Programs, reference: str
) -> None:
    assert verdict(programs, block(ADD), reference) == (CORRECT, "")
    found, detail = verdict(programs, block(ADD.replace("+", "-") + "# 0"), reference)
    if "add(0, 0)" not in reference:
        assert found == WRONG
        assert "Error" in detail


def test_programs_that_read_and_print_are_held_against_examples(programs: Programs) -> None:
    reference = json.dumps([{"input": "1 2\n", "output": "3"}, {"input": "5 5", "output": "10\n"}])
    good = "a, b = map(int, input().split())\nprint(a + b)\nexit()"
    assert verdict(programs, block(good), reference) == (CORRECT, "")
    found, detail = verdict(programs, block("input()\nprint(3)"), reference)
    assert found == WRONG
    assert "example 2" in detail
    assert "'10\\n'" in detail


def test_the_program_is_the_last_block_of_python() -> None:
    response = "```python\nx = 1\n```\ntext\n```bash\nls\n```\n~~~py\nx = 2\n~~~\n```json\n{}\n```"
    assert program_of(response) == "x = 2\n"
    assert program_of("def f():\n    return 1") == "def f():\n    return 1"
    assert program_of("I would use a loop.") is None
    assert program_of("```python\nfor x in") is None


def test_without_a_program_there_is_no_answer(programs: Programs) -> None:
    assert verdict(programs, "I do not know.", ASSERTS) == (NO_ANSWER, "")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("while True: pass", "CPU"),
        ("import os; os._exit(0)", "before its tests"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("x = bytearray(10**10)", "MemoryError"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("print('x' * 10**7)", "characters of output"),
        ("import os; os.write(3, b'passed')", "before its tests"),
    ],
)
def test_what_a_wrong_program_died_of_is_told(programs: Programs, code: str, why: str) -> None:
    # Tests of its own may not save it.
    found, detail = verdict(programs, block(f"{code}\n{ADD}"), f"assert False\n{ASSERTS}")
    assert found == WRONG
    assert why in detail


@pytest.mark.parametrize("name", sorted(ESCAPES))
def test_nothing_leaves_its_process(programs: Programs, name: str, tmp_path: Path) -> None:
    place = tmp_path / "escaped"
    (tmp_path / "precious").write_text("as it was")
    code = ESCAPES[name].format(place=str(place), precious=str(tmp_path / "precious"))
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    found, detail = verdict(programs, block(f"{code}\n{ADD}"), ASSERTS)
    assert found == WRONG, detail
    assert "Error" in detail, detail
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious"]
    assert (tmp_path / "precious").read_text() == "as it was"
    after = {child.pid for child in psutil.Process().children(recursive=True)}
    assert len(after - before) <= 1  # the worker itself, where this was its first program
    os.kill(os.getpid(), 0)


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_what_programs_may_need_is_there(programs: Programs, name: str) -> None:
    assert verdict(programs, block(f"{HARMLESS[name]}\n{ADD}"), ASSERTS) == (CORRECT, "")


def test_keys_in_the_environment_are_not_there(
    monkeypatch: pytest.MonkeyPatch, programs: Programs
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with Programs(1, 1) as fresh:
        code = "import os\nassert 'OPENAI_API_KEY' not in os.environ"
        assert verdict(fresh, block(f"{code}\n{ADD}"), ASSERTS) == (CORRECT, "")


def test_a_worker_that_was_killed_is_replaced(programs: Programs) -> None:
    verdict(programs, block(ADD), ASSERTS)
    for child in psutil.Process().children(recursive=True):
        if "program_worker" in " ".join(child.cmdline()):
            child.kill()
    assert verdict(programs, block(ADD), ASSERTS) == (CORRECT, "")


def test_a_mixture_of_hostile_and_right_programs_loses_none(programs: Programs) -> None:
    draw = random.Random(4)
    responses = [block(ADD if n % 3 else hostile_program(draw, quick=True)) for n in range(60)]
    began = time.monotonic()
    with Programs(1, 1, num_processes=2) as several:
        found = several.check([(response, ASSERTS) for response in responses])
    assert [verdict for verdict, _ in found] == [CORRECT if n % 3 else WRONG for n in range(60)]
    assert time.monotonic() - began < 600


@pytest.mark.parametrize(
    "reference", ["", "   ", "def f(:", "[]", '[{"input": 1}]', "[1, 2]", "# x"]
)
def test_references_without_tests_are_told(reference: str) -> None:
    assert why_no_tests(reference) is not None


def test_tests_are_read_before_anything_is_asked() -> None:
    assert why_no_tests(ASSERTS) is None
    assert why_no_tests(json.dumps([{"input": "", "output": "1"}])) is None
    assert "no Python" in (why_no_tests("assert f(") or "")
