"""Run folders whose prompts wait for teachers: a folder and a step in, a recipe out."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.storage.layout import PERSYN, run_of
from persyn_ray.storage.records import Record, write_record
from persyn_ray.storage.results import PromptsResult
from persyn_ray.storage.schemas import ASSIGNMENT, PROMPTS
from streaming_parts.killing.count import Row

STUDENT = "package:persyn_ray/lab/assets/student"
TEACHERS = ("teacher-a", "teacher-b")
SPLITS = {"collect": "parallel", "synthesize": "routed"}
ROWS_PER_SHARD = 400


def settings(folder: Path, num_prompts: int) -> dict[str, Any]:
    """Teachers of up to two engines, each on a GPU of its own (a logical one); a student that
    scores on one CPU."""
    resources = {
        "gpus": 1,
        "cpus": 1,
        "replicas": 2,
        "load_seconds": 5,
        "max_deaths": 1000,
        "arguments": {"max_num_seqs": 8},
    }
    engine = {"kind": "vllm", "model": {"name": STUDENT}}
    return {
        "run": str(folder / "run"),
        "prompts": {
            "path": str(folder / "prompts.jsonl"),
            "num_parallel": num_prompts,
            "reference_column": "answer",
        },
        "teachers": [{"name": name, "engine": engine, "resources": resources} for name in TEACHERS],
        "student": {"name": STUDENT},
        "router": {"backbone": {"name": "router"}},
        "scoring": {"alpha": 0.4, "quality": {"kind": "exact_match", "marker": "#"}},
        "resources": {"score": {"actors": 1, "cpus": 1}},
    }


def made_run(folder: Path, step: str, num_prompts: int, seed: int) -> tuple[Recipe, set[Row]]:
    """A run before a step, its recipe as a file, and the rows that the step is to bring."""
    (folder / "logs").mkdir(parents=True)
    data = settings(folder, num_prompts)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    recipe = parse_recipe(data, "kills")
    run, split = run_of(recipe), SPLITS[step]
    drawn_P = np.random.default_rng(seed).integers(len(TEACHERS), size=num_prompts)
    ids = [f"prompt-{number:06d}" for number in range(num_prompts)]
    shards: list[str] = []
    for start in range(0, num_prompts, ROWS_PER_SHARD):
        shard = f"shard-{len(shards):06d}.parquet"
        places = range(start, min(num_prompts, start + ROWS_PER_SHARD))
        prompts = [_prompt(ids[place], split) for place in places]
        given = [
            {"prompt_id": ids[place], "teacher": TEACHERS[drawn_P[place]], "margin": 1.0}
            for place in places
        ]
        run.prompts.write_table(shard, pa.Table.from_pylist(prompts, schema=PROMPTS))
        if step == "synthesize":
            table = pa.Table.from_pylist(given, schema=ASSIGNMENT)
            run.assignment(PERSYN).write_table(shard, table)
        shards.append(shard)
    of_splits = {"parallel": [], "heldout": [], "routed": []} | {split: shards}
    result = PromptsResult(
        rows=num_prompts, splits={split: num_prompts}, sharding="made", shards=of_splits
    )
    write_record(run.records, Record("prompts", "made", {}, {}, result.model_dump(mode="json")))
    if step == "collect":
        return recipe, {(name, one) for name in TEACHERS for one in ids}
    return recipe, {(TEACHERS[t], one) for t, one in zip(drawn_P, ids, strict=True)}


def _prompt(prompt_id: str, split: str) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "messages": [{"role": "user", "content": f"max {prompt_id[-3:]} 7"}],
        "reference": prompt_id[-2:],
        "source": "made",
        "split": split,
    }
