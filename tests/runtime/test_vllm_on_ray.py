"""A real vLLM on CPUs through Ray: teacher and student say the same words as with transformers."""

import json
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from persyn_ray.engines.base import Request
from persyn_ray.engines.build import build_engine
from persyn_ray.pipeline.collect import ask
from persyn_ray.pipeline.evaluate import on_groups, student_groups
from persyn_ray.pipeline.load_prompts import write_prompts
from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.recipe.training import EvaluateTransformersConfig, EvaluateVllmConfig
from persyn_ray.runtime.session import Cluster
from persyn_ray.shards.evaluate import EvaluateShard
from persyn_ray.shards.part_files import all_rows, existing
from persyn_ray.shards.score import check_of
from persyn_ray.shards.tables import shards_of
from persyn_ray.stages.evaluate import Evaluate
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.records import Record, write_record
from persyn_ray.storage.schemas import EVALUATIONS, RESPONSES

from .small_vllm import MODEL, PROMPTS, SAMPLING, SPEED, vllm_recipe

pytestmark = [pytest.mark.vllm, pytest.mark.assets, pytest.mark.ray, pytest.mark.timeout(1800)]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return vllm_recipe(tmp_path)


def test_a_student_that_vllm_answers_for_says_what_transformers_says(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Step evaluate on a group of its own; greedy, so both engines say the same."""
    (tmp_path / "p.jsonl").write_text(
        "".join(json.dumps({"prompt": one, "answer": "7"}) + "\n" for one in PROMPTS[:12])
    )
    data = {
        "run": str(tmp_path / "run"),
        "student": {"name": MODEL},
        "teachers": [{"name": "a", "engine": {"kind": "scripted"}}],
        "prompts": {
            "path": str(tmp_path / "p.jsonl"),
            "reference_column": "answer",
            "num_parallel": 4,
            "num_heldout": 8,
        },
        "scoring": {"quality": {"kind": "exact_match", "marker": "####"}},
        "router": {"backbone": {"name": "random:llama"}},
        "evaluate": {
            "max_tokens": 12,
            "engine": {
                "kind": "vllm",
                "dtype": "float32",
                "max_model_len": 512,
                "resources": {"gpus": 0, "cpus": 1, "arguments": SPEED | {"max_num_seqs": 4}},
            },
        },
    }
    recipe = parse_recipe(data, "test")
    run, engine = run_of(recipe), recipe.evaluate.engine
    found = write_prompts(recipe, run).model_dump(mode="json")
    write_record(run.records, Record("prompts", "x", {}, {}, found))
    assert isinstance(engine, EvaluateVllmConfig)
    groups = student_groups(run, ["before"], None, engine, partial(EvaluateShard, recipe))
    assert len(groups[0].units) == 2
    done = on_groups(groups, run, Console(quiet=True))
    assert done.rows == 8
    said = all_rows(run.evaluations("before"), EVALUATIONS).to_pylist()
    local = recipe.evaluate.model_copy(update={"engine": EvaluateTransformersConfig()})
    check = check_of(local, recipe.scoring)
    assert check is not None
    (shard,) = shards_of(run, "heldout")
    expected = Evaluate("before", recipe.student, local, check)(run.prompts.read_table(shard))
    words = {row["prompt_id"]: (row["response"], row["outcome"]) for row in expected.to_pylist()}
    assert {row["prompt_id"]: (row["response"], row["outcome"]) for row in said} == words


def test_vllm_says_through_ray_data_what_transformers_says(
    cluster: Cluster, recipe: Recipe
) -> None:
    run = run_of(recipe)
    write_record(
        run.records,
        Record("prompts", "x", {}, {}, write_prompts(recipe, run).model_dump(mode="json")),
    )
    shards = shards_of(run, "parallel")
    counts = ask(recipe, run, "collect", shards, None, Console(quiet=True))
    assert (counts.rows, counts.errors) == (len(PROMPTS), 0)
    rows = [
        row
        for shard in shards
        for row in existing(run.responses(recipe.teachers[0]), shard, RESPONSES).to_pylist()
    ]
    asked = {
        row["prompt_id"]: row["messages"]
        for shard in shards
        for row in run.prompts.read_table(shard).to_pylist()
    }
    local = TeacherConfig.model_validate(
        {
            "name": "local",
            "engine": {"kind": "transformers", "model": {"name": MODEL}},
            "sampling": SAMPLING,
        }
    )
    requests = [Request(row["prompt_id"], asked[row["prompt_id"]]) for row in rows]
    expected = build_engine(local).generate(requests)
    same = [row["response"] == one.text for row, one in zip(rows, expected, strict=True)]
    assert sum(same) >= 0.95 * len(PROMPTS)
    for row, one, is_same in zip(rows, expected, same, strict=True):
        if is_same:
            assert row["finish_reason"] == one.finish_reason
            assert (row["num_prompt_tokens"], row["num_tokens"]) == (
                one.num_prompt_tokens,
                one.num_tokens,
            )
    assert {row["finish_reason"] for row in rows} == {"stop", "length"}
