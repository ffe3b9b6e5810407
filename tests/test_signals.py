"""SIGTERM ends a command as Ctrl-C does, with real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from persyn_ray.recipe.recipe import Recipe

Make = Callable[..., Recipe]
STUBBORN = """
import time
from persyn_ray.signals import take_sigterm
take_sigterm()
told = False
while True:
    try:
        if not told:
            told = True
            print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
FORKING = """
import os, signal, time
from persyn_ray.signals import take_sigterm
take_sigterm()
child = os.fork()
if not child:
    time.sleep(60)
time.sleep(1)
os.kill(child, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
time.sleep(0.2)
"""

LOST = """
import sys, time
from persyn_ray.cli.main import app, entry

class Deaf:
    def __del__(self):  # Python tells of what is raised here and goes on
        print("ready", flush=True)
        time.sleep(2)

@app.command("work")
def work():
    one = Deaf()
    try:
        del one
        time.sleep(5)
        print("not interrupted", flush=True)
    finally:
        time.sleep(0.5)
        print("cleaned up", flush=True)

sys.argv = ["persyn", "work"]
entry()
"""
IN_A_TEXT = """
import sys
from persyn_ray.cli.main import app, entry

@app.command("work")
def work():  # as `dataclass` and `namedtuple` do while modules are imported
    try:
        exec("import time; print('ready', flush=True); time.sleep(20)")
    finally:
        print("cleaned up", flush=True)

sys.argv = ["persyn", "work"]
entry()
"""


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture
def slow_step(make_recipe: Make, tmp_path: Path) -> list[str]:
    """A command whose first step reads very many references, in processes of its own."""
    rows = [{"prompt": f"{n}?", "answer": f"\\sqrt{{{n}}} + x^{n % 7 + 2}"} for n in range(20000)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    quality = {"kind": "exact_answer"}
    recipe = make_recipe({"scoring.quality": quality, "prompts.task_column": None})
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True)))
    return ["-m", "persyn_ray.cli.main", "run", str(path), "--until", "prompts"]


def children_of(process: subprocess.Popen[str], seconds: float = 300.0) -> list[psutil.Process]:
    """The processes that a command has started, as soon as there are any."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        children = psutil.Process(process.pid).children(recursive=True)
        if children:
            return children
        time.sleep(0.05)
    raise AssertionError("the command has started no process")


def test_sigterm_at_a_plain_step_says_what_stands_and_leaves_no_process(
    slow_step: list[str],
) -> None:
    process = started(*slow_step)
    children = children_of(process)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "Begun: prompts" in " ".join(told.split())
    assert "The same command goes on where this one stopped" in " ".join(told.split())
    assert "Traceback" not in told
    assert "***" not in told  # the dump of a stack in C++
    assert psutil.wait_procs(children, timeout=60)[1] == []


def test_ctrl_c_keeps_its_own_exit_code(slow_step: list[str]) -> None:
    process = started(*slow_step)
    children_of(process)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "SIGTERM" not in told


def test_a_second_sigterm_ends_what_does_not_end_by_itself() -> None:
    process = started("-c", STUBBORN)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    while process.stdout.readline() != "interrupted\n":
        assert process.poll() is None
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143


def test_a_fork_ends_by_its_own_sigterm_and_the_parent_stays() -> None:
    process = started("-c", FORKING)
    told, _ = process.communicate(timeout=300)
    assert told.strip() == str(-signal.SIGTERM)
    assert process.returncode == 0


@pytest.mark.parametrize("script", [LOST, IN_A_TEXT], ids=["ignored", "in a text"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["term", "int"]
)
def test_an_interruption_ends_a_command_wherever_it_comes(
    script: str, number: signal.Signals, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "command.py").write_text(script)
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[1]}{os.pathsep}{tmp_path}")
    process = started("-m", "command")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == code
    assert "not interrupted" not in told
    assert "cleaned up" in told
    assert "Traceback" not in told
    assert "The same command goes on" in " ".join(told.split())
