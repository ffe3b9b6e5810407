"""Scoring while responses are still written, against writing and scoring one after the other.

A simulation as far as teachers go: their engines only keep time (`simulated_engine.py`), on logical
CPUs that no machine stands behind. The scorer is real: the tiny student of the lab reads every
response and measures its learnability, beside a check, in the project's own pools.
"""

import hashlib
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from persyn_ray.engines.base import Completion, Done, Request
from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.shards.collect import Collect
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.records import Record, write_record
from persyn_ray.storage.results import PromptsResult
from persyn_ray.storage.schemas import PROMPTS
from streaming_parts.simulated_engine import EngineConfig, Lengths
from streaming_parts.streamed import TimedEngine

STUDENT = "package:persyn_ray/lab/assets/student"
TEACHERS = 3
LOGICAL_CPUS = 8


class WritingEngine(TimedEngine):
    """A simulated engine whose responses have words that differ, one character a token."""

    async def _all(self, requests: Sequence[Request], done: Done) -> None:
        def said(place: int, completion: Completion) -> None:
            name = requests[place].prompt_id
            digits = hashlib.sha256(name.encode()).hexdigest() * 40
            text = f"{digits[: completion.num_tokens]} #{place}"
            done(place, Completion(text, "stop", 20, completion.num_tokens))

        await super()._all(requests, said)


class WritingCollect(Collect):
    """Step collect of one teacher, with a simulated engine."""

    def __init__(
        self, config: EngineConfig, folder: Path, recipe: Recipe, names: tuple[str, ...], *_: Any
    ) -> None:
        super().__init__(recipe, None, names)
        self.config, self.summaries = config, folder

    def _parts_of(self, teacher: Any) -> Any:
        stage, responses, notes = super()._parts_of(teacher)
        with self.lock:
            if not isinstance(stage.engine, WritingEngine):
                summary = self.summaries / f"{teacher.name}.json"
                stage.engine = WritingEngine(self.config, summary)
        return stage, responses, notes


def made_run(folder: Path, num_prompts: int) -> tuple[Recipe, list[str]]:
    """A run folder with prompts that all teachers answer; and the names of its shards."""
    endpoint = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    resources = {"gpus": 0, "cpus": 0, "max_requests": 64}
    data = {
        "run": str(folder / "run"),
        "prompts": {
            "path": str(folder / "prompts.jsonl"),
            "num_parallel": num_prompts,
            "reference_column": "answer",
        },
        "teachers": [
            {"name": f"teacher-{m}", "engine": endpoint, "resources": resources}
            for m in range(TEACHERS)
        ],
        "student": {"name": STUDENT},
        "router": {"backbone": {"name": "router"}},
        "scoring": {"alpha": 0.4, "quality": {"kind": "exact_match", "marker": "#"}},
        "resources": {"score": {"actors": 2, "cpus": 1}},
    }
    recipe = parse_recipe(data, "benchmark")
    run, shard = run_of(recipe), "shard-000000.parquet"
    rows = [
        {
            "prompt_id": f"prompt-{p:06d}",
            "messages": [{"role": "user", "content": f"max {p} {p + 3} {p % 7}"}],
            "reference": str(p),
            "source": "made",
            "split": "parallel",
        }
        for p in range(num_prompts)
    ]
    run.prompts.write_table(shard, pa.Table.from_pylist(rows, schema=PROMPTS))
    result = PromptsResult(
        rows=num_prompts,
        splits={"parallel": num_prompts},
        sharding="made",
        shards={"parallel": [shard], "heldout": [], "routed": []},
    )
    write_record(run.records, Record("prompts", "made", {}, {}, result.model_dump(mode="json")))
    return recipe, [shard]


def timed(config: EngineConfig, num_prompts: int, with_scores: bool) -> dict[str, float]:
    """Seconds of collecting, with what is scored meanwhile, and of scoring what is left then."""
    from persyn_ray.pipeline import score
    from persyn_ray.pipeline.collect import Wanted, actor_groups, open_rows
    from persyn_ray.runtime.actor_pools.follow_up import followed
    from persyn_ray.runtime.actor_pools.room import room_beside
    from persyn_ray.runtime.pools import run_units
    from persyn_ray.runtime.teacher_scheduler import cluster_nodes, run_actor_groups
    from persyn_ray.shards.units import Progress

    def on_pool(build: Any, units: Any, resources: Any, step: str) -> Progress:
        return sum(run_units(build, units, resources, step), Progress())

    with TemporaryDirectory() as name:
        recipe, shards = made_run(Path(name), num_prompts)
        run = run_of(recipe)
        rows = open_rows(recipe.teachers, run, shards, Wanted(recipe.teachers, run, None, 0))
        build = partial(WritingCollect, config, Path(name), recipe)
        groups = actor_groups(recipe.teachers, rows, recipe.resources.collect, {}, build, build)
        nodes, began = cluster_nodes(), time.monotonic()
        follow_up = score.follow_up(recipe, shards)
        assert follow_up is not None
        place = room_beside(groups, follow_up.wanted, nodes)
        assert place is not None, "the cluster was to have room"
        with followed(follow_up, place) if with_scores else nullcontext():
            marks = run.records / "engines"
            done = sum(run_actor_groups(groups, nodes, "collect", marks, {}), Progress())
            written = time.monotonic() - began
        collected = time.monotonic()
        scored = score.score(recipe, run, shards, on_pool)
        ended = time.monotonic()
        assert done.rows == scored.rows == TEACHERS * num_prompts
        return {
            "collect": round(written, 2),
            "after_last_response": round(ended - began - written, 2),
            "score_step": round(ended - collected, 2),
            "whole": round(ended - began, 2),
            "rows_scored_by_the_step": float(scored.tokens > 0),
        }


def measure(is_quick: bool, seed: int) -> dict[str, Any]:
    """Collect and score beside one another against the longer of the two alone."""
    import ray

    number = 300 if is_quick else 2_000
    lengths = Lengths(log_mean=4.3, most=200, seed=seed)
    config = EngineConfig(slots=64, step_seconds=0.004 if is_quick else 0.03, lengths=lengths)
    ray.init(address="local", num_cpus=LOGICAL_CPUS, include_dashboard=False, log_to_driver=False)
    try:
        apart = timed(config, number, with_scores=False)
        together = timed(config, number, with_scores=True)
    finally:
        ray.shutdown()
    longer = max(apart["collect"], apart["score_step"])
    return {
        "score_overlap": round(together["whole"] / longer, 4),
        "one_after_the_other": round(apart["whole"] / longer, 4),
        "simulation": "teachers' engines only keep time; the student's scoring is real",
        "apart": apart,
        "together": together,
        "prompts": number,
        "teachers": TEACHERS,
        "logical_cpus": LOGICAL_CPUS,
    }
