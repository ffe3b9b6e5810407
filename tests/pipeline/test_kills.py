"""kill -9 at any moment, and two at once: what was filed stays and is not asked for again."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from persyn_ray.pipeline.assign.methods import response_settings
from persyn_ray.pipeline.dead_letters import failures
from persyn_ray.recipe.recipe import Recipe, load_recipe
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.schemas import RESPONSES

Make = Callable[..., Recipe]

# Step collect as the runner does it, in this process and slowly; each request is told before it is
# answered, and each shard of a teacher once it is filed.
WORKING = """
import sys, time
from dataclasses import replace
from rich.console import Console
from persyn_ray.recipe.recipe import Recipe, load_recipe
from persyn_ray.engines.scripted import ScriptedEngine
from persyn_ray.pipeline import dead_letters, runner
from persyn_ray.pipeline.assign.methods import response_settings
from persyn_ray.shards.collect import Collect
from persyn_ray.shards import part_writer
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import units_of
from persyn_ray.storage.results import CollectResult

asked, filed = open(sys.argv[2], "a", buffering=1), open(sys.argv[3], "a", buffering=1)
generate, add = ScriptedEngine.generate, part_writer.add_part

def slowly(self, requests):
    time.sleep(0.005)
    asked.writelines(f"{request.prompt_id}\\n" for request in requests)
    return generate(self, requests)

def told(folder, tables, writer=None):
    add(folder, tables, writer)
    for new in tables.values():
        filed.writelines(f"{prompt_id}\\n" for prompt_id in new["prompt_id"].to_pylist())

def collect(context):
    work = Collect(context.recipe)
    done = [work(unit) for unit in units_of(shards_of(context.run, "parallel"))]
    dead_letters.write_failures(response_settings(context.recipe), context.run, "collect")
    return CollectResult(rows=sum(one.rows for one in done))

ScriptedEngine.generate, part_writer.add_part = slowly, told
runner.STEPS = tuple(
    replace(step, carry_out=collect, on_ray=False) if step.name == "collect" else step
    for step in runner.STEPS
)
print("ready", flush=True)
runner.run_recipe(load_recipe(sys.argv[1]), Console(quiet=True), until="collect")
"""


def start(recipe: Path, asked: Path, filed: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WORKING, str(recipe), str(asked), str(filed)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def written(make_recipe: Make, tmp_path: Path) -> Callable[..., Path]:
    """The file of a recipe over 60 parallel prompts in shards of 3; teacher b fails on some."""

    def write(name: str, **changes: str) -> Path:
        fails = {"name": "b", "engine": {"kind": "scripted", "fail_on": "No. 1"}}
        teachers = [{"name": "a", "engine": {"kind": "scripted"}}, fails]
        sizes = {"prompts.num_parallel": 60, "prompts.shard_rows": 3}
        run = {"run": str(tmp_path / name), "teachers": teachers}
        recipe = make_recipe(sizes | run | changes, num_prompts=70)
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
        return path

    return write


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def check(path: Path) -> None:
    """All is there once, every failure is counted, and nothing is left over."""
    recipe = load_recipe(path)
    run = run_of(recipe)
    reasons: Counter[str] = Counter()
    for teacher in recipe.teachers:
        for shard in shards_of(run, "parallel"):
            asked = run.prompts.read_table(shard)["prompt_id"].to_pylist()
            stored = existing(run.responses(teacher), shard, RESPONSES)
            assert sorted(stored["prompt_id"].to_pylist()) == sorted(asked)
            reasons.update(stored["finish_reason"].to_pylist())
    assert reasons["error"] > 0
    assert reasons.total() == 120
    assert failures(response_settings(recipe), run, "collect").num_rows == reasons["error"]
    assert list(path.parent.rglob(".tmp-*")) == []


@pytest.mark.parametrize("seed", range(2))
def test_kill_9_at_any_moment_loses_nothing_that_was_filed(
    written: Callable[..., Path], tmp_path: Path, seed: int
) -> None:
    path, asked, filed = written("run"), tmp_path / "asked", tmp_path / "filed"
    moments, num_filed = random.Random(seed), 0
    for _ in range(3):
        with start(path, asked, filed) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
            # The first kills come among the prompts and the attempt's own files.
            time.sleep(moments.choice((0.0, 0.05, 0.1, 0.2, 0.4)) * moments.random())
            os.kill(process.pid, signal.SIGKILL)
        assert len(lines(filed)) >= num_filed
        num_filed = len(lines(filed))
    with start(path, asked, filed) as process:
        said = process.communicate()[1]
    assert process.returncode == 0, said
    check(path)
    # Asked again is at most the shard of one teacher that each kill met.
    assert 120 <= len(lines(asked)) <= 120 + 3 * 3


def test_two_runs_on_one_store_with_kills_in_between(
    written: Callable[..., Path], tmp_path: Path
) -> None:
    store = {"responses.store": str(tmp_path / "store")}
    paths = [written(name, **store) for name in ("one", "two")]
    for is_last in (False, True):
        started = [
            start(path, tmp_path / f"asked-{path.stem}", tmp_path / f"filed-{path.stem}")
            for path in paths
        ]
        for place, process in enumerate(started):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            if not is_last and place == 1:
                time.sleep(0.15)
                process.kill()
        for place, process in enumerate(started):
            said = process.communicate()[1]
            assert is_last or place == 1 or process.returncode == 0, said
            assert not is_last or process.returncode == 0, said
    for path in paths:
        check(path)
    one, two = (load_recipe(path) for path in paths)
    for shard in shards_of(run_of(one), "parallel"):
        for teacher in one.teachers:
            views = [existing(run_of(r).responses(teacher), shard, RESPONSES) for r in (one, two)]
            assert views[0].equals(views[1])
