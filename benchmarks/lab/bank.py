"""The lab's bank: fresh problems, every teacher's response, and what the student makes of it.

It is filled by the stages of the pipeline themselves, in two processes and without Ray, and kept
below a cache folder, so that an experiment may be stopped and taken up again.
Axes: P prompts, M teachers.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from persyn_ray.data.prompt_rows import prompt_id_of
from persyn_ray.lab import tasks
from persyn_ray.recipe.recipe import Recipe, load_recipe
from persyn_ray.shards.tables import Rewards, by_teacher_PM, rewards_of
from persyn_ray.storage.schemas import PROMPTS

Floats = NDArray[np.float64]
PROCESSES = 2
LEARNED = ("log_likelihood", "lowest_window", "rank_surprisal", "entropy")
"""Measures of learnability that a bank holds."""
HELDOUT_SEED = 10_001  # no block of prompts has it
DEVELOPMENT = 100
"""From this seed on blocks are for trying things: nothing is reported of them."""


class OutOfTime(Exception):
    """The time given is over; what is finished is kept, and the same command goes on."""


@dataclass(frozen=True)
class Bank:
    """Problems with all responses and signals, in pool order."""

    prompts: pa.Table
    texts: tuple[tuple[str, ...], ...]
    """Of each teacher, one response a prompt."""
    signals: dict[str, Floats]
    """Measures of learnability and quality by name, (P, M)."""
    tokens_PM: Floats

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.prompts["prompt_id"].to_pylist())

    def rewards(self, recipe: Recipe, rows: Sequence[int], quality_PM: Floats | None = None) -> Any:
        """Signals and rewards of some prompts, by the recipe's alpha and scaling."""
        some = np.asarray(rows, dtype=np.int64)
        quality_PM = self.signals["quality"] if quality_PM is None else quality_PM
        learnability_PM = self.signals["log_likelihood"][some]
        rewards_PM = rewards_of(recipe.scoring, quality_PM[some], learnability_PM)
        ids = tuple(self.ids[row] for row in some)
        return Rewards(ids, learnability_PM, quality_PM[some], rewards_PM)


def start_worker() -> None:
    """One thread each: two processes share two cores."""
    import torch

    torch.set_num_threads(1)


def in_processes(
    work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], until: float | None = None
) -> list[Any]:
    """Carry out jobs side by side, in their order.

    Raises:
        OutOfTime: jobs were left when the clock (`time.monotonic`) passed `until`; those that had
            begun were ended.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    begun: list[Future[Any]] = []
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), start_worker) as pool:
        # No more than there are processes: what waits in the pool could not be called back.
        for job in jobs:
            running = [one for one in begun if not one.done()]
            if len(running) >= PROCESSES:
                wait(running, return_when=FIRST_COMPLETED)
            for done in (one for one in begun if one.done()):
                done.result()  # a job that failed ends the rest
            if until is not None and time.monotonic() >= until:
                raise OutOfTime
            begun.append(pool.submit(work, *job))
        return [one.result() for one in begun]


def problems(
    num_blocks: int, block: int, num_heldout: int, first: int = 0
) -> tuple[pa.Table, pa.Table]:
    """Prompts in disjoint blocks, and held-out problems that none of them contains.

    Args:
        first: seed of the first block; blocks for development have held-out problems of their own,
            and neither has any that is reported on.
    """
    heldout = tasks.generate(num_heldout, seed=HELDOUT_SEED)
    taken = {problem.prompt for problem in heldout}
    if first >= DEVELOPMENT:
        heldout = tasks.generate(num_heldout, seed=HELDOUT_SEED - 1, exclude=taken)
        taken |= {problem.prompt for problem in heldout}
    drawn: list[tasks.Problem] = []
    for number in range(first, first + num_blocks):
        drawn += tasks.generate(block, seed=HELDOUT_SEED + 1 + number, exclude=taken)
        taken |= {problem.prompt for problem in drawn}
    return _table(drawn, "routed"), _table(heldout, "heldout")


def _table(drawn: Sequence[tasks.Problem], split: str) -> pa.Table:
    rows = []
    for problem in drawn:
        messages = [{"role": "user", "content": problem.prompt}]
        facts = {"reference": problem.reference, "task": problem.task}
        place = {"prompt_id": prompt_id_of(messages), "source": "lab", "split": split}
        rows.append({**place, "messages": messages, **facts})
    return pa.Table.from_pylist(rows, schema=PROMPTS)


def fill(
    folder: Path,
    recipe_path: Path,
    overrides: tuple[str, ...],
    prompts: pa.Table,
    chunk: int,
    until: float | None = None,
) -> Bank:
    """Every teacher of a recipe answers, and the recipe's student scores; what is there is kept.

    Raises:
        OutOfTime: some are left when the clock passes `until`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe(recipe_path, overrides)
    names = recipe.pool.names
    jobs = [
        (
            folder / f"{name}-{start}.parquet",
            recipe_path,
            overrides,
            name,
            prompts[start : start + chunk],
        )
        for start in range(0, len(prompts), chunk)
        for name in names
    ]
    in_processes(_answer, [job for job in jobs if not job[0].exists()], until)
    tables = [
        pa.concat_tables([pq.read_table(job[0]) for job in jobs if job[3] == name])
        for name in names
    ]
    ids = prompts["prompt_id"].to_pylist()
    texts = []
    for table in tables:
        of = dict(zip(table["prompt_id"].to_pylist(), table["response"].to_pylist(), strict=True))
        texts.append(tuple(of[prompt_id] or "" for prompt_id in ids))
    return Bank(
        prompts,
        tuple(texts),
        {name: by_teacher_PM(tables, ids, name) for name in (*LEARNED, "quality")},
        by_teacher_PM(tables, ids, "num_tokens"),
    )


def _answer(
    path: Path, recipe_path: Path, overrides: tuple[str, ...], name: str, prompts: pa.Table
) -> None:
    """One teacher's responses to some prompts with their signals, as one file."""
    from persyn_ray.stages.generate import Generate
    from persyn_ray.stages.learnability import Learnability
    from persyn_ray.stages.quality import Quality

    if path.exists():
        return
    recipe = load_recipe(recipe_path, overrides)
    teacher = recipe.teachers[recipe.pool.index(name)]
    responses = Generate(teacher, recipe.pool, recipe.responses)(prompts)
    learned = Learnability(recipe.student, recipe.scoring.tokens_per_batch)(prompts, responses)
    judged = Quality(recipe.scoring.quality)(prompts, responses)  # pyright: ignore[reportArgumentType]
    joined = responses.select(["prompt_id", "response", "num_tokens"])
    for table, columns in ((learned, LEARNED), (judged, ("quality",))):
        joined = joined.join(table.select(["prompt_id", *columns]), "prompt_id")
    part = path.with_suffix(".part")
    pq.write_table(joined, part)
    part.rename(path)
    print(f"bank: {path.name}", flush=True)
