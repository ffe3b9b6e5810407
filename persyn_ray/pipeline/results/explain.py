"""Explains one prompt's assignment, and the state of a run."""

from typing import Any

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.pipeline.choices import assigned_methods
from persyn_ray.pipeline.steps import STEPS
from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.shards.response_store import existing
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.records import Record, read_record
from persyn_ray.storage.schemas import RESPONSES

NOT_MEASURED = "not measured"


def open_run(address: str) -> tuple[Recipe, RunLayout]:
    """A run by its folder.

    Raises:
        ConfigError: there is no run.
    """
    run = RunLayout(Folder.absolute(address))
    if not run.root.exists("recipe.json"):
        raise ConfigError(
            f"{address} holds no run (no recipe.json). `persyn run RECIPE` makes one."
        )
    try:
        data = run.root.read_json("recipe.json")
    except DataError as error:
        raise DataError(f"{error} `persyn run RECIPE` writes it anew.") from error
    recipe = parse_recipe(data, f"{address}/recipe.json")
    recipe = recipe.model_copy(update={"run": run.root.address})
    return recipe, run_of(recipe)


def state(run: RunLayout) -> list[tuple[str, Record | None]]:
    """Every step with its record, in order."""
    return [(step.name, read_record(run.records, step.name)) for step in STEPS]


def explain(recipe: Recipe, run: RunLayout, prompt_id: str) -> dict[str, Any]:
    """All that is known of one prompt: its split, signals, rewards, logits, assignment and
    responses.

    Args:
        prompt_id: the whole id or its beginning.

    Raises:
        DataError: no prompt, or more than one, begins so.
    """
    shard, prompt = _find(run, prompt_id)
    full_id, names = prompt["prompt_id"], recipe.pool.names
    teachers: dict[str, dict[str, Any]] = {name: {} for name in names}
    for folder, columns in (
        (run.rewards, ("learnability", "quality", "rewards")),
        (run.logits, ("logits", "candidates")),
    ):
        row = _row(folder, shard, full_id)
        for column in columns if row else ():
            for name, value in zip(names, row[column], strict=True):
                teachers[name][column] = value
    for facts in teachers.values():
        if not recipe.measures_learnability and facts.get("learnability", 0) is None:
            facts["learnability"] = NOT_MEASURED
    for teacher in recipe.teachers:
        for row in existing(run.responses(teacher), shard, RESPONSES).to_pylist():
            if row["prompt_id"] == full_id:
                teachers[teacher.name]["response"] = row["response"]
                teachers[teacher.name]["finish_reason"] = row["finish_reason"]
                teachers[teacher.name]["error"] = row["error"]
    assigned = {
        method: row["teacher"]
        for method in assigned_methods(recipe.compare)
        if (row := _row(run.assignment(method), shard, full_id))
    }
    return {**prompt, "shard": shard, "teachers": teachers, "assigned": assigned}


def _find(run: RunLayout, prompt_id: str) -> tuple[str, dict[str, Any]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for shard in shards_of(run, "parallel", "heldout", "routed"):
        for row in run.prompts.read_table(shard).to_pylist():
            if row["prompt_id"].startswith(prompt_id):
                found.append((shard, row))
    if len(found) != 1:
        begins = ", ".join(row["prompt_id"] for _, row in found[:3])
        raise DataError(
            f"{len(found) or 'No'} prompts of this run begin with {prompt_id!r}"
            + (f": {begins} …" if found else "; ids are in tables/prompts and in the data set.")
        )
    return found[0]


def _row(folder: Folder, shard: str, prompt_id: str) -> dict[str, Any]:
    if not folder.exists(shard):
        return {}
    rows = folder.read_table(shard).to_pylist()
    return next((row for row in rows if row["prompt_id"] == prompt_id), {})
