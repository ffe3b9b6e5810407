"""A small planted world in files, recipes over it, and its pipeline carried out in this process."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import settings
from rich.console import Console

from persyn_ray.method.planted import specialists
from persyn_ray.pipeline.assign.constrained import limit_settings
from persyn_ray.pipeline.assign.methods import response_settings, settings_of
from persyn_ray.pipeline.plan.forecasts.known import forecast_settings
from persyn_ray.pipeline.runner import planned_steps
from persyn_ray.recipe.recipe import Recipe, parse_recipe, stored
from persyn_ray.storage.layout import RunLayout, parts_of, run_of
from persyn_ray.storage.records import Record, read_record, write_record
from persyn_ray.storage.results import RewardsResult, RouteResult, RouterResult, StepResult

# Property tests: the same examples on every run, no clock (machines are shared), no database.
settings.register_profile(
    "repeatable", max_examples=25, deadline=None, derandomize=True, database=None
)
settings.load_profile("repeatable")

TEACHERS = ("a", "b", "c")
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MakeRecipe = Callable[..., Recipe]
Row = dict[str, Any]


def planted_rows(num_prompts: int) -> list[Row]:
    world = specialists(4, TEACHERS)
    return [
        {"prompt": p.text, "answer": world.right_answer(p.text), "task": f"task-{p.task}"}
        for p in world.prompts(num_prompts)
    ]


def write_jsonl(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recipe_data(folder: Path) -> dict[str, Any]:
    """24 prompts of which 12 are parallel, 4 held out and 8 routed, in shards of 5."""
    return {
        "run": str(folder / "run"),
        "student": {"name": "random:llama"},
        "teachers": [{"name": name, "engine": {"kind": "scripted"}} for name in TEACHERS],
        "prompts": {
            "path": str(folder / "prompts.jsonl"),
            "reference_column": "answer",
            "task_column": "task",
            "num_parallel": 12,
            "num_heldout": 4,
            "shard_rows": 5,
        },
        "scoring": {"quality": {"kind": "exact_match", "marker": "####"}},
        "router": {"backbone": {"name": "random:llama"}, "heldout_fraction": 0.3},
        "evaluate": {"max_tokens": 2},
    }


def changed(data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`data` with values set under dotted keys."""
    for key, value in changes.items():
        *parents, leaf = key.split(".")
        node = data
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return data


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def make_recipe(tmp_path: Path) -> MakeRecipe:
    """A recipe over prompts in tmp_path; changes are given by dotted keys."""

    def make(changes: dict[str, Any] | None = None, num_prompts: int = 24) -> Recipe:
        path = tmp_path / "prompts.jsonl"
        if not path.exists():
            write_jsonl(path, planted_rows(num_prompts))
        return parse_recipe(changed(recipe_data(tmp_path), changes or {}), "test")

    return make


@pytest.fixture
def quiet() -> Console:
    return Console(quiet=True)


@pytest.fixture
def record_step() -> Callable[..., RunLayout]:
    """Leave the record of a step, as the runner does when it has carried the step out."""
    return leave_record


def leave_record(
    recipe: Recipe, step: str, found: StepResult | dict[str, Any] | None = None
) -> RunLayout:
    run = run_of(recipe)
    (planned,) = [one for one in planned_steps(recipe, run) if one.step.name == step]
    there = read_record(run.records, step)
    if isinstance(found, StepResult):
        found = found.model_dump(mode="json")
    result = found or (there.result if there else {"rows": 1})
    write_record(
        run.records, Record(step, planned.identity, planned.settings, planned.inputs, result)
    )
    return run


@pytest.fixture(scope="session")
def random_llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a two-layer model with random weights; torch runs on one thread from here on."""
    import torch

    from persyn_ray.models.load import save_random

    torch.set_num_threads(1)
    return str(save_random("llama", tmp_path_factory.mktemp("student")))


@pytest.fixture(scope="session")
def tiny_context(random_llama: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The random model with a context of 64 tokens."""
    folder = tmp_path_factory.mktemp("tiny")
    for path in Path(random_llama).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    return str(folder)


@pytest.fixture(scope="session")
def finished(
    random_llama: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recipe, RunLayout]:
    """A run with every step done and all teachers on the held-out prompts; to be read only."""
    folder = tmp_path_factory.mktemp("finished")
    write_jsonl(folder / "prompts.jsonl", planted_rows(24))
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    recipe = parse_recipe(changed(recipe_data(folder), models | {"compare.heldout": True}), "test")
    return recipe, carry_out_here(recipe)


@pytest.fixture
def carry_out() -> Callable[..., RunLayout]:
    """Carry out a recipe's steps one after the other in this process, up to and with `until`."""
    return carry_out_here


def carry_out_here(recipe: Recipe, until: str = "evaluate") -> RunLayout:
    """All that a run holds, but for training: the router and the students have random weights."""
    from persyn_ray.pipeline import dataset, load_prompts
    from persyn_ray.pipeline.assign import assignments
    from persyn_ray.pipeline.choices import assigned_methods, collected_splits, students
    from persyn_ray.pipeline.plan.forecasts.steps import FORECAST_STEPS, write_forecast
    from persyn_ray.pipeline.steps import STEPS
    from persyn_ray.shards import tables
    from persyn_ray.shards import units as unit_lists
    from persyn_ray.shards.aggregates import teacher_aggregates
    from persyn_ray.shards.collect import Collect
    from persyn_ray.shards.evaluate import EvaluateShard
    from persyn_ray.shards.provenance import RoutedRows
    from persyn_ray.shards.route import RouteShard
    from persyn_ray.shards.score import Score

    run = run_of(recipe)

    def units(*splits: str) -> list[unit_lists.Unit]:
        return unit_lists.units_of(tables.shards_of(run, *splits))

    def do(what: unit_lists.Work, todo: list[unit_lists.Unit]) -> dict[str, Any]:
        done = [what(unit) for unit in todo]
        return {
            "rows": sum(one.rows for one in done),
            "tokens": sum(one.tokens for one in done),
            "errors": sum(one.errors for one in done),
        }

    def score() -> dict[str, Any]:
        counts = do(Score(recipe), units(*collected_splits(recipe.compare)))
        return {"rows": counts["rows"], "tokens": counts["tokens"], "nulls": counts["errors"]}

    def rewards() -> RewardsResult:
        for unit in units(*collected_splits(recipe.compare)):
            run.rewards.write_table(unit["shard"], rewards_of(recipe, unit["shard"]))
        parallel = tables.shards_of(run, "parallel")
        means = teacher_aggregates(
            run, recipe.teachers, parts_of(recipe.scoring), recipe.responses, parallel
        )
        return RewardsResult(rows=1, teachers=means)

    def route() -> RouteResult:
        do(RouteShard(recipe), units("parallel", "routed", "heldout"))
        return assignments.write_assignments(
            settings_of(recipe), limit_settings(recipe), run, assigned_methods(recipe.compare)
        )

    def synthesize() -> dict[str, Any]:
        methods = assigned_methods(recipe.compare)
        open_splits = [s for s in ("routed",) if s not in collected_splits(recipe.compare)]
        counts = do(Collect(recipe, methods), units(*open_splits))
        if recipe.compare.students or "wrong" in recipe.dataset.drop:
            do(Score(recipe, learnability=False), units(*open_splits))
        counts["examples"] = {
            m: dataset.write_examples(response_settings(recipe), run, m) for m in methods
        }
        rows = RoutedRows(run, recipe.teachers, recipe.scoring, recipe.responses)
        dataset.write_dataset(run, rows, recipe.dataset)
        return counts

    def evaluate() -> dict[str, Any]:
        todo = [
            unit | {"student": student, "rows": [0, 1]}
            for student in students(recipe.compare, recipe.evaluate, recipe.scoring)
            for unit in units("heldout")
        ]
        counts = do(EvaluateShard(recipe), todo)
        return {"rows": counts["rows"], "tokens": counts["tokens"]}

    actions: dict[str, Callable[[], StepResult | dict[str, Any]]] = {
        "prompts": lambda: load_prompts.write_prompts(recipe, run),
        "collect": lambda: do(Collect(recipe), units(*collected_splits(recipe.compare))),
        "score": score,
        "rewards": rewards,
        "router": lambda: router_of(recipe, run),
        "route": route,
        "synthesize": synthesize,
        "finetune": lambda: untuned_students(recipe, run),
        "evaluate": evaluate,
    }
    for step in STEPS:
        if step.name in FORECAST_STEPS:
            write_forecast(forecast_settings(recipe), run, step.name)
        leave_record(recipe, step.name, actions[step.name]())
        if step.name == until:
            break
    run.root.write_json("recipe.json", stored(recipe))
    return run


def rewards_of(recipe: Recipe, shard: str) -> pa.Table:
    """REWARDS of one shard of a recipe's run."""
    from persyn_ray.shards.tables import shard_rewards

    return shard_rewards(run_of(recipe), recipe.teachers, shard, recipe.scoring, recipe.responses)


def router_of(recipe: Recipe, run: RunLayout) -> RouterResult | dict[str, Any]:
    """Simple kinds are fitted, which takes no training; a network has random weights."""
    from persyn_ray.pipeline.training import router_result
    from persyn_ray.shards.fit_router import fit_routers

    if recipe.router.kind == "fitted":
        return untrained_router(recipe, run)
    fit_routers(run, recipe.router, recipe.pool)
    return router_result(run)


def untrained_router(recipe: Recipe, run: RunLayout) -> dict[str, Any]:
    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.router.model import build_router, router_logits, save_router
    from persyn_ray.shards.tables import heldout_mask, shards_of
    from persyn_ray.storage.fits import RouterFit, write_router_fit
    from persyn_ray.storage.results import TrainingLoss

    name = recipe.router.backbone.name
    router, tokenizer = build_router(name, recipe.pool.names), load_tokenizer(name)
    tables = [run.prompts.read_table(shard) for shard in shards_of(run, "parallel")]
    prompts = [row for table in tables for row in table.to_pylist()]
    ids = [row["prompt_id"] for row in prompts]
    out_P = heldout_mask(ids, recipe.router.heldout_fraction, recipe.router.seed)
    logits_PM = router_logits(router, tokenizer, [row["messages"] for row in prompts])
    num_fit = int((~out_P).sum())
    fit = RouterFit(
        num_fit=num_fit,
        loss_curve=[TrainingLoss(step=1, train_loss=0.7, heldout_loss=0.7)],
        heldout_logits={num_fit: logits_PM[out_P].tolist()},
    )
    with TemporaryDirectory() as scratch:
        save_router(router, tokenizer, Path(scratch))
        run.router.upload(Path(scratch))
    write_router_fit(run.router, fit)
    return {"rows": num_fit}


def untuned_students(recipe: Recipe, run: RunLayout) -> dict[str, Any]:
    from persyn_ray.pipeline.choices import assigned_methods

    facts = {}
    for method in assigned_methods(recipe.compare):
        run.student(method).upload(Path(recipe.student.name))
        rows = sum(table.num_rows for _, table in run.examples(method).tables())
        facts[method] = {"num_examples": rows, "num_too_long": 0, "num_unreadable": 0}
    return {"rows": sum(fact["num_examples"] for fact in facts.values()), "students": facts}
