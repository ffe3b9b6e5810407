"""What Ray and the project cost per row of step collect, with an engine that costs nearly nothing.

Real Ray Data, real run folder, an engine that says the same to everything. Three ways on the same
rows: the work alone, in a loop of this process; the same through a pool of one actor; and a pool
whose work does nothing, which is what Ray, tickets and the queue of units cost by themselves.
"""

import cProfile
import pstats
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pyarrow as pa

from persyn_ray.engines.base import Completion, Request
from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.units import Progress, Unit, batches_of
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.records import Record, write_record
from persyn_ray.storage.results import PromptsResult
from persyn_ray.storage.schemas import PROMPTS

SHARD, BATCH = 50_000, 256


class Echo:
    """An engine that costs nearly nothing."""

    overlaps: ClassVar[bool] = False

    def check(self) -> None:
        """Nothing can be missing."""

    def refuses(self, request: Request) -> str | None:
        """Nothing is refused."""
        return None

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The same answer to all, of the usual length."""
        # Words that do not repeat: text that does is looked at for loops, which takes longer.
        text = " ".join(f"{word * 7919 % 99_991:x}" for word in range(1, 200))
        return [Completion(text, "stop", 100, 250) for _ in requests]

    def close(self) -> None:
        """Nothing is held."""


class EchoCollect(Collect):
    """Step collect with such an engine."""

    def _parts_of(self, teacher: Any) -> Any:
        stage, responses, notes = super()._parts_of(teacher)
        stage.engine = Echo()
        return stage, responses, notes


class Nothing:
    """Work that only counts its rows."""

    def __call__(self, unit: Unit) -> Progress:
        return Progress(rows=len(unit.get("rows", ())))


def made_run(folder: Path, num_prompts: int) -> tuple[Recipe, list[Unit]]:
    """A run folder of one scripted teacher, and its batches."""
    data = {
        "run": str(folder / "run"),
        "prompts": {
            "path": str(folder / "prompts.jsonl"),
            "num_parallel": num_prompts,
            "reference_column": "answer",
        },
        "teachers": [{"name": "t", "engine": {"kind": "scripted"}}],
        "student": {"name": "random:llama"},
        "router": {"backbone": {"name": "random:llama"}},
        "scoring": {"quality": {"kind": "exact_match"}},
    }
    recipe = parse_recipe(data, "benchmark")
    run = run_of(recipe)
    shards: dict[str, Sequence[int]] = {}
    for start in range(0, num_prompts, SHARD):
        shard, size = f"shard-{len(shards):06d}.parquet", min(SHARD, num_prompts - start)
        rows = [
            {
                "prompt_id": f"prompt-{p:07d}",
                "messages": [{"role": "user", "content": f"What is {p} plus {p + 1}? " * 10}],
                "source": "made",
                "split": "parallel",
            }
            for p in range(start, start + size)
        ]
        run.prompts.write_table(shard, pa.Table.from_pylist(rows, schema=PROMPTS))
        shards[shard] = range(size)
    result = PromptsResult(
        rows=num_prompts,
        splits={"parallel": num_prompts},
        sharding="made",
        shards={"parallel": list(shards), "heldout": [], "routed": []},
    )
    write_record(run.records, Record("prompts", "made", {}, {}, result.model_dump(mode="json")))
    return recipe, list(batches_of(shards, BATCH))


def in_a_loop(recipe: Recipe, units: Sequence[Unit]) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of the work alone, and the functions of the project that most of it is spent in."""
    collect, profile, began = EchoCollect(recipe), cProfile.Profile(), time.monotonic()
    half = len(units) // 2
    for unit in units[:half]:
        collect(unit)
    seconds = time.monotonic() - began  # a profile makes everything slower: the first half counts
    profile.enable()
    for unit in units[half:]:
        collect(unit)
    profile.disable()
    return seconds / half * len(units), _most_costly(pstats.Stats(profile))


def _most_costly(stats: pstats.Stats, number: int = 8) -> list[dict[str, Any]]:
    whole = stats.total_tt  # pyright: ignore[reportAttributeAccessIssue]
    of: Any = stats.stats  # pyright: ignore[reportAttributeAccessIssue]
    found = [
        {"function": f"{Path(file).name}:{name}", "share": round(own / whole, 3)}
        for (file, _, name), (_, _, own, _, _) in of.items()
    ]
    return sorted(found, key=lambda one: -one["share"])[:number]


def through_a_pool(build: Any, units: Sequence[Unit]) -> dict[str, float]:
    """Seconds from the first result to the last, and until the first."""
    from persyn_ray.runtime.placement import Place
    from persyn_ray.runtime.pools import run_pool

    began, times = time.monotonic(), list[float]()
    for _ in run_pool(build, units, Place(size=1), "collect"):
        times.append(time.monotonic())
    return {
        "start": times[0] - began,
        "rest": (times[-1] - times[0]) * len(units) / (len(units) - 1),
    }


def measure(is_quick: bool) -> dict[str, Any]:
    """Microseconds per row of each way, on as many rows as one table has in two files."""
    import ray

    number = 5_000 if is_quick else 100_000
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        recipe, units = made_run(Path(first), number)
        alone, functions = in_a_loop(recipe, units)
        again, _ = made_run(Path(second), number)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            empty = through_a_pool(lambda _: Nothing(), units)
            pooled = through_a_pool(partial(_collect, again), units)
        finally:
            ray.shutdown()
    per_row = 1e6 / number
    return {
        "rows": number,
        "batches": len(units),
        "work_alone_us": round(alone * per_row, 1),
        "through_pool_us": round(pooled["rest"] * per_row, 1),
        "ray_alone_us": round(empty["rest"] * per_row, 1),
        "ray_alone_ms_per_batch": round(empty["rest"] / len(units) * 1e3, 2),
        "start_seconds": round(empty["start"], 2),
        "work_alone_is_spent_in": functions,
    }


def _collect(recipe: Recipe, placement: Any) -> Collect:
    return EchoCollect(recipe)
