"""Explains one prompt's assignment, and the state of a run."""

from collections.abc import Mapping
from typing import Any, TypedDict

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.pipeline.choices import assigned_methods
from persyn_ray.pipeline.results.prompt_rows import find_prompts, part_rows_of, row_of, rows_of
from persyn_ray.pipeline.steps import STEPS
from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.fits import ROUTER_FIT_FILE, read_router_fit
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.records import Record, read_record
from persyn_ray.storage.schemas import RESPONSES

NOT_MEASURED = "not measured"


class TeacherFacts(TypedDict, total=False):
    """What is known of one teacher on the prompt; what no step has written yet is left out."""

    learnability: float | str | None
    quality: float | None
    rewards: float | None
    logits: float | None
    candidates: bool
    response: str | None
    finish_reason: str
    error: str | None


class Prompt(TypedDict):
    """A row of the prompts."""

    prompt_id: str
    messages: list[dict[str, str]]
    reference: str | None
    task: str | None
    source: str
    split: str


class Explanation(Prompt):
    """A prompt, and where it went."""

    shard: str
    teachers: dict[str, TeacherFacts]
    assigned: dict[str, str]
    """Teacher by method."""
    router: list[str]
    """Its kind where it is not the fitted one, what it went by, and why it was chosen."""


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


def explain(recipe: Recipe, run: RunLayout, prompt_id: str) -> Explanation:
    """All that is known of one prompt: its split, signals, rewards, logits, assignment and
    responses.

    Args:
        prompt_id: the whole id or its beginning.

    Raises:
        DataError: no prompt, or more than one, begins so.
    """
    shard, prompt = _find(run, prompt_id)
    full_id = prompt["prompt_id"]
    teachers: dict[str, TeacherFacts] = {name: {} for name in recipe.pool.names}
    _add_signals(teachers, row_of(run.rewards, shard, full_id))
    _add_logits(teachers, row_of(run.logits, shard, full_id))
    for facts in teachers.values():
        if not recipe.measures_learnability and facts.get("learnability", 0) is None:
            facts["learnability"] = NOT_MEASURED
    for teacher in recipe.teachers:
        for row in part_rows_of(run.responses(teacher), shard, full_id, RESPONSES).to_pylist():
            teachers[teacher.name]["response"] = row["response"]
            teachers[teacher.name]["finish_reason"] = row["finish_reason"]
            teachers[teacher.name]["error"] = row["error"]
    assigned = {
        method: row["teacher"]
        for method in assigned_methods(recipe.compare)
        if (row := row_of(run.assignment(method), shard, full_id))
    }
    router = _router_told(run, prompt["task"])
    return {**prompt, "shard": shard, "teachers": teachers, "assigned": assigned, "router": router}


def _router_told(run: RunLayout, task: str | None) -> list[str]:
    """What is to be said of a router that is not the fitted one of the paper."""
    if not run.router.exists(ROUTER_FIT_FILE):
        return []
    fit = read_router_fit(run.router)
    if fit.kind == "fitted":
        return []
    told = f"router of kind {fit.kind}" + (f" ({fit.told})" if fit.told else "")
    if fit.kind in ("per_task", "linear", "stacked"):
        told += f", the prompt's task: {'none' if task is None else task}"
    return [told] if fit.compared is None else [told, f"router.kind: auto: {fit.compared.why}"]


def _add_signals(teachers: dict[str, TeacherFacts], row: Mapping[str, Any]) -> None:
    """Add a row of the rewards, one value a teacher in the order of the pool; none if empty."""
    if row:
        columns = (row["learnability"], row["quality"], row["rewards"])
        for facts, *values in zip(teachers.values(), *columns, strict=True):
            facts["learnability"], facts["quality"], facts["rewards"] = values


def _add_logits(teachers: dict[str, TeacherFacts], row: Mapping[str, Any]) -> None:
    """The same with a row of the router's logits."""
    if row:
        columns = (row["logits"], row["candidates"])
        for facts, *values in zip(teachers.values(), *columns, strict=True):
            facts["logits"], facts["candidates"] = values


def _find(run: RunLayout, prompt_id: str) -> tuple[str, Prompt]:
    shards = shards_of(run, "parallel", "heldout", "routed")
    found = find_prompts(run.prompts, shards, prompt_id)
    if len(found) != 1:
        begins = ", ".join(name for _, name in found[:3])
        raise DataError(
            f"{len(found) or 'No'} prompts of this run begin with {prompt_id!r}"
            + (f": {begins} …" if found else "; ids are in tables/prompts and in the data set.")
        )
    shard, full_id = found[0]
    row = rows_of(run.prompts, shard, [full_id]).to_pylist()[0]
    return shard, {
        "prompt_id": full_id,
        "messages": row["messages"],
        "reference": row["reference"],
        "task": row["task"],
        "source": row["source"],
        "split": row["split"],
    }
