"""kill -9 of `persyn run` with a local Ray: nothing is lost, and nothing is asked for again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.results import CollectResult, read_result

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def small_recipe(make_recipe: Callable[..., Recipe]) -> Recipe:
    """Three scripted teachers on 240 parallel prompts in shards of 3, which are not scored."""
    changes = {
        "prompts.num_parallel": 240,
        "prompts.num_heldout": 0,
        "prompts.shard_rows": 3,
        "resources.score_with_collect": False,  # or torch would be loaded beside it
    }
    return make_recipe(changes, num_prompts=250)


def test_kill_9_loses_nothing_and_repeats_nothing(tmp_path: Path, small_recipe: Recipe) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(small_recipe.model_dump(mode="json")))
    command = [sys.executable, "-m", "persyn_ray.cli.main", "run", str(path), "--until", "collect"]
    responses = Path(small_recipe.run) / "tables" / "responses"
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 600
    while not list(responses.rglob("*.parquet")) and first.poll() is None:
        assert time.monotonic() < deadline, "nothing was collected in time"
        time.sleep(0.02)
    assert first.poll() is None, "the run ended before it could be killed"
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    written = sum(pq.read_metadata(path).num_rows for path in responses.rglob("*.parquet"))
    assert written

    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=900)
    run = run_of(small_recipe)
    asked = read_result(run.records, CollectResult)
    num_pairs = len(small_recipe.teachers) * small_recipe.prompts.num_parallel
    assert asked is not None
    assert asked.rows <= num_pairs - written
    for teacher in small_recipe.teachers:
        ids = [
            i
            for _, table in run.responses(teacher).tables()
            for i in table["prompt_id"].to_pylist()
        ]
        assert len(ids) == len(set(ids)) == small_recipe.prompts.num_parallel
