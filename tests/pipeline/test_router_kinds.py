"""A run whose router is a simple predictor: routed, explained, reported, and not exported."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from persyn_ray.errors import ConfigError
from persyn_ray.exports.export import export
from persyn_ray.exports.form import Facts
from persyn_ray.exports.forms import form_named
from persyn_ray.pipeline.results.explain import explain
from persyn_ray.pipeline.results.explain_display import show_prompt
from persyn_ray.pipeline.results.run import gather
from persyn_ray.pipeline.results.step_remarks import remarks
from persyn_ray.pipeline.steps import STEPS
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report.content import complete
from persyn_ray.report.html import render
from persyn_ray.report.summary import paragraph
from persyn_ray.shards.fit_router import fit_routers
from persyn_ray.shards.tables import column_PM, shards_of
from persyn_ray.storage.fits import read_router_fit
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import PERSYN, RunLayout
from persyn_ray.storage.records import read_record
from persyn_ray.storage.results import RouterResult, result_of

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
SIMPLE = ["constant", "per_task", "knn", "linear", "stacked"]


@pytest.fixture
def made(make_recipe: Make, random_llama: str) -> Make:
    """A recipe of 80 prompts, 60 of them parallel; the planted teachers are each good at a task."""

    def make(**changes: Any) -> Recipe:
        given = {
            "router.backbone.name": random_llama,
            "router.kind": "auto",
            "router.candidates": SIMPLE,
            "prompts.num_parallel": 60,
            "prompts.shard_rows": 40,
            "student.name": random_llama,
        }
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        return make_recipe(given | dotted, num_prompts=80)

    return make


def routed(recipe: Recipe, carry_out: CarryOut) -> RunLayout:
    return carry_out(recipe, until="route")


def test_auto_finds_the_table_routes_by_it_and_says_why_everywhere(
    made: Make, carry_out: CarryOut
) -> None:
    recipe = made(router__candidates=["per_task"])
    run = routed(recipe, carry_out)
    fit = read_router_fit(run.router)
    assert fit.kind == "per_task"
    assert fit.compared is not None
    record = read_record(run.records, "router")
    assert record is not None
    result = result_of(record, RouterResult)
    assert (result.kind, result.why) == ("per_task", fit.compared.why)
    (remark,) = remarks(result, run, recipe.teachers, recipe.responses)
    assert remark == f"router.kind: auto: {fit.compared.why}."

    chosen: dict[str, set[str]] = {}
    for shard in shards_of(run, "routed"):
        prompts = {row["prompt_id"]: row for row in run.prompts.read_table(shard).to_pylist()}
        for row in run.assignment(PERSYN).read_table(shard).to_pylist():
            chosen.setdefault(prompts[row["prompt_id"]]["task"], set()).add(row["teacher"])
    assert all(len(teachers) == 1 for teachers in chosen.values())
    assert len(set.union(*chosen.values())) > 1

    told = explained(recipe, run)
    assert "router of kind per_task (4 tasks), the prompt's task: task-" in told
    assert fit.compared.why in told.replace("\n", " ")
    content = gather(recipe, run, {})
    assert content["router"]["kind"]["kind"] == "per_task"
    page = render(content)
    assert "Which kind of router, and why" in page
    assert "best teacher per task, shrunk" in page
    assert "it takes six fits of the backbone" in page
    summary = " ".join(paragraph(complete(content)))
    assert "router.kind: auto uses best teacher per task, shrunk (4 tasks)" in summary


def explained(recipe: Recipe, run: RunLayout) -> str:
    prompt_id = run.prompts.read_table(shards_of(run, "routed")[0])["prompt_id"][0].as_py()
    console = Console(file=StringIO(), width=400)
    show_prompt(explain(recipe, run, prompt_id), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_logits_of_the_table_are_those_of_the_fit_and_limits_read_them(
    made: Make, carry_out: CarryOut
) -> None:
    limits = {"assignment__capacity": {"a": 2}, "router__kind": "stacked"}
    recipe = made(**limits, router__learning_curve=[20, 35])
    run = routed(recipe, carry_out)
    fit = read_router_fit(run.router)
    assert fit.kind == "stacked"
    assert fit.told is not None
    assert "weights" in fit.told
    assert sorted(fit.heldout_logits) == [20, 35, fit.num_fit]
    tables = [run.logits.read_table(shard) for shard in shards_of(run, "parallel")]
    logits_PM = np.concatenate([column_PM(table, "logits") for table in tables])
    for logits_M in fit.heldout_logits[fit.num_fit]:
        assert np.abs(logits_PM - logits_M).max(axis=1).min() < 1e-4
    counts = [
        run.assignment(PERSYN).read_table(shard)["teacher"].to_pylist().count("a")
        for shard in shards_of(run, "routed")
    ]
    assert sum(counts) <= 2


def test_the_fitted_router_says_nothing_of_kinds(finished: tuple[Recipe, RunLayout]) -> None:
    recipe, run = finished
    prompt_id = run.prompts.read_table(shards_of(run, "routed")[0])["prompt_id"][0].as_py()
    assert explain(recipe, run, prompt_id)["router"] == []
    assert "Which kind of router" not in render(gather(recipe, run, {}))


def test_what_holds_a_head_alone_refuses_other_kinds(
    made: Make, carry_out: CarryOut, tmp_path: Path
) -> None:
    recipe = made(router__kind="constant")
    run = routed(recipe, carry_out)
    facts = Facts(**{**dict.fromkeys(Facts.__dataclass_fields__, None), "router": run.router})
    with pytest.raises(ConfigError, match=r"router\.kind constant"):
        export(form_named("router"), None, facts, Folder(str(tmp_path / "out")))  # pyright: ignore
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    larger = recipe.router.model_copy(update={"kind": "fitted", "extend": run.router.address})
    with pytest.raises(ConfigError, match=r"router\.extend.*router\.kind constant"):
        fit_routers(run, larger, recipe.pool)


def test_a_table_by_task_needs_a_column_of_labels(make_recipe: Make) -> None:
    with pytest.raises(ConfigError, match=r"router\.kind per_task needs prompts\.task_column"):
        make_recipe({"router.kind": "per_task", "prompts.task_column": None})


def test_finished_runs_of_a_fitted_router_stay_as_they_are(make_recipe: Make) -> None:
    (step,) = [step for step in STEPS if step.name == "router"]
    settings = step.settings(make_recipe())["router"]
    assert settings.keys() & {"kind", "candidates"} == set()
    table = step.settings(make_recipe({"router.kind": "per_task"}))["router"]
    assert table == settings | {"kind": "per_task"}
    auto = [
        step.settings(make_recipe({"router.kind": "auto"} | more))["router"]
        for more in ({}, {"router.candidates": ["knn"]})
    ]
    assert auto[0] != auto[1]


def test_shares_of_variance_are_the_first_number_of_the_report(
    finished: tuple[Recipe, RunLayout],
) -> None:
    content = complete(gather(*finished, {}))
    assert content["reward"] is not None
    variance = content["reward"]["variance"]
    assert variance is not None
    assert set(variance["signals"]) == {"reward", "quality", "learnability"}
    for parts in variance["signals"].values():
        whole = [parts[name] for name in ("teacher", "prompt", "interaction")]
        assert sum(part or 0.0 for part in whole) == pytest.approx(1.0)
    first = paragraph(content, with_concerns=False)[0]
    assert first.startswith("Of the variance of the reward")
    assert "bounds what any router can gain" in first
    assert "Whose the variance is" in render(json.loads(json.dumps(content)))
