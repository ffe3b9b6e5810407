"""Drivers that can be killed: attempts at a step on the cluster at RAY_ADDRESS, as `persyn run`
makes them.

    python driver.py        # then on stdin `start STEP RECIPE LOG`, or `status PID`

Each attempt is a process of its own, forked from this one, which has the libraries in memory and
nothing else: a start costs a second or two in place of ten. What an attempt does is the project's
own code (the run's lock, what is left of writers that died, `ask`, scoring beside it, the step
score, compaction), with simulated engines. Answers are single words: a pid, `runs`, or a status.
"""

import os
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
import ray.data
import yaml
from rich.console import Console

from persyn_ray.pipeline import collect, score
from persyn_ray.pipeline.integrity.recovery import remove_leftovers
from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.runtime import compaction, pools, teacher_scheduler
from persyn_ray.runtime.actor_pools import follow_up, room
from persyn_ray.runtime.session import session
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import Progress
from persyn_ray.storage.layout import PERSYN, run_of
from persyn_ray.storage.run_lock import attempt_at
from streaming_parts.killing.engine import SimulatedCollect, Simulation

LOADED = (ray.data, compaction, follow_up, pools, room, teacher_scheduler)
"""What an attempt imports on its way, loaded before any fork."""


def collected(recipe: Recipe, console: Console) -> None:
    """Steps collect, with scores beside it where there is room, and score."""
    run = run_of(recipe)
    shards = shards_of(run, "parallel")
    follow = score.follow_up(recipe, shards)
    collect.ask(recipe, run, "collect", shards, None, console, follow)
    score.score(recipe, run, shards, on_pool)
    compaction.compact_tables(score.tables(run, recipe.teachers, recipe.scoring))


def synthesized(recipe: Recipe, console: Console) -> None:
    """Step synthesize: each prompt goes to the teacher that it is assigned to."""
    run = run_of(recipe)
    collect.ask(recipe, run, "synthesize", shards_of(run, "routed"), (PERSYN,), console)


STEPS = {"collect": collected, "synthesize": synthesized}


def on_pool(build: Any, units: Any, resources: Any, step: str, in_flight: int = 1) -> Progress:
    """All units of a step on a pool of its own."""
    return sum(pools.run_units(build, units, resources, step, in_flight), Progress())


def attempt(step: str, path: Path) -> None:
    """One attempt at a step of a run, from whatever the one before has left."""
    recipe = parse_recipe(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    run, console = run_of(recipe), Console()
    engines = partial(SimulatedCollect, Simulation(str(path.with_name("logs")), os.getpid()))
    with attempt_at(run.attempts, console):
        remove_leftovers(run)
        with (
            session(),
            patch.object(collect, "Collect", engines),
            patch.object(collect, "check_teachers"),  # would look for the models of real ones
        ):
            STEPS[step](recipe, console)


def start(step: str, path: Path, log: Path) -> int:
    """Fork a driver; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(out, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        attempt(step, path)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def status_of(pid: int, known: dict[int, str]) -> str:
    """`runs`, or how it ended: 0, 1, or the signal that killed it as a negative number."""
    if pid not in known:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            return "runs"
        known[pid] = str(os.waitstatus_to_exitcode(status))
    return known[pid]


def main() -> None:
    """Until the other end closes stdin."""
    known: dict[int, str] = {}
    print("ready", flush=True)
    while line := sys.stdin.readline():
        match line.split():
            case ["start", step, recipe, log]:
                print(start(step, Path(recipe), Path(log)), flush=True)
            case ["status", pid]:
                print(status_of(int(pid), known), flush=True)
            case _:
                raise ValueError(f"{line!r} is neither `start STEP RECIPE LOG` nor `status PID`")


if __name__ == "__main__":
    assert not ray.is_initialized()
    main()
