"""The project's own streaming of rows to simulated engines: run folder, Ray Data, response store.

A simulation of the engines alone (`simulated_engine.py`). Prompts, assignment, batches, actor pools
and the store of responses are those of `persyn run`: step synthesize on a run in which a router has
given every prompt to one teacher.
"""

import asyncio
import json
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import yaml

from persyn_ray.engines.base import Completion, Done, Occupancy, Request
from persyn_ray.recipe.recipe import Recipe, load_recipe
from persyn_ray.shards.collect import Collect
from persyn_ray.storage.layout import PERSYN, RunLayout, run_of
from persyn_ray.storage.records import Record, write_record
from persyn_ray.storage.results import PromptsResult
from persyn_ray.storage.schemas import ASSIGNMENT, PROMPTS, RESPONSES
from streaming_parts.all_at_once import AllAtOnce
from streaming_parts.simulated import Workload
from streaming_parts.simulated_engine import EngineConfig, SimulatedEngine

ROWS_PER_SHARD = 50_000


class TimedEngine(AllAtOnce):
    """A simulated engine behind the interface of streaming engines, in a loop of its own."""

    def __init__(self, config: EngineConfig, summary: Path) -> None:
        self.summary = summary
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.engine = asyncio.run_coroutine_threadsafe(self._made(config), self.loop).result()

    async def _made(self, config: EngineConfig) -> SimulatedEngine:
        return SimulatedEngine(config)

    def stream(self, requests: Sequence[Request], done: Done) -> None:
        """All requests at once; each ends with its own last token."""
        asyncio.run_coroutine_threadsafe(self._all(requests, done), self.loop).result()
        self.summary.write_text(json.dumps(self.engine.summary()), encoding="utf-8")

    def take_occupancy(self) -> Occupancy:
        """Nothing here: its summary tells more."""
        return Occupancy()

    async def _all(self, requests: Sequence[Request], done: Done) -> None:
        async def one(place: int, request: Request) -> None:
            num_tokens = await self.engine.generate(request.prompt_id)
            done(place, Completion("x" * 4 * num_tokens, "stop", 100, num_tokens))

        await asyncio.gather(*(one(place, request) for place, request in enumerate(requests)))

    def close(self) -> None:
        """Nothing is held."""


class TimedCollect(Collect):
    """Step synthesize of one teacher, with a simulated engine."""

    def __init__(
        self, config: EngineConfig, summaries: Path, recipe: Recipe, names: tuple[str, ...], *_: Any
    ) -> None:
        super().__init__(recipe, (PERSYN,), names)
        self.config, self.summaries = config, summaries

    def _parts_of(self, teacher: Any) -> Any:
        stage, responses, notes = super()._parts_of(teacher)
        with self.lock:
            if not isinstance(stage.engine, TimedEngine):
                summary = self.summaries / f"{teacher.name}.json"
                stage.engine = TimedEngine(self.config, summary)
        return stage, responses, notes


def routed_run(work: Workload, folder: Path) -> Recipe:
    """A run folder in which every prompt is assigned to its teacher."""
    endpoint = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    settings = {
        "run": str(folder / "run"),
        "prompts": {
            "path": str(folder / "prompts.jsonl"),
            "num_parallel": 1,
            "reference_column": "answer",
        },
        "teachers": [
            {"name": name, "engine": endpoint, "resources": {"gpus": 0, "cpus": 0}}
            for name in work.prompts
        ],
        "student": {"name": "student"},
        "router": {"backbone": {"name": "router"}},
        "scoring": {"quality": {"kind": "exact_match"}},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    recipe = load_recipe(path)
    teacher_of = {one: name for name, ids in work.prompts.items() for one in ids}
    write_tables(run_of(recipe), sorted(teacher_of), teacher_of)
    return recipe


def write_tables(
    run: RunLayout,
    ids: Sequence[str],
    teacher_of: dict[str, str],
    texts: Mapping[str, str] | None = None,
) -> list[str]:
    """PROMPTS and PerSyn's ASSIGNMENT, in shards; returns the names of the shards.

    Prompts without a text of their own have some words that mean nothing.
    """
    shards: list[str] = []
    for start in range(0, len(ids), ROWS_PER_SHARD):
        part, shard = ids[start : start + ROWS_PER_SHARD], f"shard-{len(shards):06d}.parquet"
        said = {one: (texts or {}).get(one, "What is it? " * 30) for one in part}
        rows = [
            {
                "prompt_id": one,
                "messages": [{"role": "user", "content": said[one]}],
                "source": "made",
                "split": "routed",
            }
            for one in part
        ]
        run.prompts.write_table(shard, pa.Table.from_pylist(rows, schema=PROMPTS))
        given = [{"prompt_id": one, "teacher": teacher_of[one], "margin": 1.0} for one in part]
        run.assignment(PERSYN).write_table(shard, pa.Table.from_pylist(given, schema=ASSIGNMENT))
        shards.append(shard)
    result = PromptsResult(
        rows=len(ids),
        splits={"routed": len(ids)},
        sharding="made",
        shards={"parallel": [], "heldout": [], "routed": shards},
    )
    record = Record("prompts", "made", {}, {}, result.model_dump(mode="json"))
    write_record(run.records, record)
    return shards


def streamed(work: Workload) -> dict[str, Any]:
    """All teachers answer their prompts; figures of each engine, and what Ray and we took.

    Ray must have been started.
    """
    from persyn_ray.pipeline.collect import Wanted, actor_groups, open_rows
    from persyn_ray.runtime.teacher_scheduler import cluster_nodes, run_actor_groups
    from persyn_ray.shards.part_files import all_rows
    from persyn_ray.shards.tables import shards_of

    with TemporaryDirectory() as name:
        folder = Path(name)
        recipe = routed_run(work, folder)
        run, began = run_of(recipe), time.monotonic()
        wanted = Wanted(recipe.teachers, run, (PERSYN,), recipe.prompts.seed)
        rows = open_rows(recipe.teachers, run, shards_of(run, "routed"), wanted)
        build = partial(TimedCollect, work.engine, folder, recipe)
        shared = recipe.resources.synthesize
        groups = actor_groups(recipe.teachers, rows, shared, {}, build, build)
        marks = run.records / "engines"
        done = list(run_actor_groups(groups, cluster_nodes(), "synthesize", marks, {}))
        wall = time.monotonic() - began
        found = {one: json.loads((folder / f"{one}.json").read_text()) for one in work.prompts}
        stored = sum(all_rows(run.responses(t), RESPONSES).num_rows for t in recipe.teachers)
        assert stored == sum(one.rows for one in done) == sum(map(len, work.prompts.values()))
        return {"engines": found, "wall_seconds": wall, "batches": len(done), "rows": stored}
