"""All routers of a run: what they are fitted on, and what fit.json says of them."""

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import TrainerCallback

from persyn_ray.errors import ConfigError
from persyn_ray.method.planted import specialists
from persyn_ray.method.preferences import preferences
from persyn_ray.models.load import load_tokenizer
from persyn_ray.models.router.frozen import prompt_features
from persyn_ray.models.router.model import load_router, router_logits
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.fit_router import fit_routers
from persyn_ray.shards.parallel_set import ParallelSet, chosen, parallel_set
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.schemas import rewards_schema

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
TEACHERS = ("a", "b", "c")
NUM_FIT = 88  # of 120, by the hash of the prompts


@pytest.fixture(scope="module", autouse=True)
def _nothing_old_to_collect() -> Iterator[None]:
    gc.freeze()  # every training begins with a collection of the whole heap, half a second
    yield
    gc.unfreeze()


Labels = Callable[[int], str | None]


@pytest.fixture
def rewarded(make_recipe: Make, carry_out: CarryOut, random_llama: str, tmp_path: Path) -> Make:
    """A recipe whose 120 parallel prompts have planted rewards; by default with their tasks."""

    def make(
        changes: dict[str, Any] | None = None, label: Labels | None = None, upside_down: str = ""
    ) -> Recipe:
        given = {
            "router.backbone.name": random_llama,
            "router.epochs": 3,
            "router.learning_rate": 0.01,
            "router.freeze_backbone": True,
            "prompts.num_parallel": 120,
            "prompts.num_heldout": 0,
            "prompts.shard_rows": 50,
        }
        world = specialists(4, TEACHERS)
        rows = [
            {
                "prompt": prompt.text,
                "answer": world.right_answer(prompt.text),
                "task": label(number) if label else f"task-{prompt.task}",
            }
            for number, prompt in enumerate(world.prompts(124))
        ]
        path = tmp_path / "prompts.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = make_recipe(given | (changes or {}))
        run = carry_out(recipe, until="prompts")
        for shard in shards_of(run, "parallel"):
            _reward(run, shard, upside_down)
        return recipe

    return make


def _reward(run: RunLayout, shard: str, upside_down: str) -> None:
    """Planted rewards for a shard, turned round on one task."""
    prompts = run.prompts.read_table(shard).to_pylist()
    texts = [row["messages"][-1]["content"] for row in prompts]
    rewards_PM = specialists(4, TEACHERS).rewards(texts)
    for row, rewards_M in zip(prompts, rewards_PM, strict=True):
        rewards_M *= -1 if row["task"] == upside_down else 1
    columns = dict.fromkeys(("learnability", "quality", "rewards"), rewards_PM.tolist())
    ids = [row["prompt_id"] for row in prompts]
    table = pa.table({"prompt_id": ids, **columns}, schema=rewards_schema(TEACHERS))
    run.rewards.write_table(shard, table)


def fit_routers_of(recipe: Recipe, **given: Any) -> int:
    return fit_routers(run_of(recipe), recipe.router, recipe.pool, **given)


def parallel_set_of(recipe: Recipe) -> ParallelSet:
    return parallel_set(run_of(recipe), len(recipe.pool), recipe.router)


def facts_of(recipe: Recipe) -> dict[str, Any]:
    return run_of(recipe).router.read_json("fit.json")


def heldout_logits(recipe: Recipe) -> np.ndarray:
    """By the saved router, prompt by prompt."""
    router, tokenizer = load_router(run_of(recipe).router.local_path, recipe.pool.names)
    data = parallel_set_of(recipe)
    out = chosen(data.conversations, data.heldout_P)
    return router_logits(router, tokenizer, out, max_length=recipe.router.max_length)


@pytest.mark.parametrize("is_frozen", [True, False])
def test_the_last_logits_are_those_of_the_saved_router(rewarded: Make, is_frozen: bool) -> None:
    recipe = rewarded({"router.freeze_backbone": is_frozen, "router.learning_curve": [9, 500]})
    watched: list[str] = []

    def watch(what: str) -> TrainerCallback:
        watched.append(what)
        return TrainerCallback()

    assert fit_routers_of(recipe, watch=watch) == NUM_FIT
    facts = facts_of(recipe)
    assert facts.keys() == {"num_fit", "loss_curve", "heldout_logits"}
    assert facts["num_fit"] == NUM_FIT
    assert list(facts["heldout_logits"]) == ["9", str(NUM_FIT)]
    assert watched == ["router on 9 prompts", f"router on {NUM_FIT} prompts"]
    logits_PM = np.array(facts["heldout_logits"][str(NUM_FIT)])
    np.testing.assert_allclose(logits_PM, heldout_logits(recipe), atol=1e-5)
    assert logits_PM.shape == (120 - NUM_FIT, 3)
    assert not np.allclose(logits_PM, facts["heldout_logits"]["9"], atol=1e-4)
    assert facts["loss_curve"][-1]["heldout_loss"] > 0


def test_a_point_of_the_curve_is_a_fit_by_itself(rewarded: Make, tmp_path: Path) -> None:
    from persyn_ray.models.fit import fit_router
    from persyn_ray.models.router.model import build_router

    recipe = rewarded({"router.learning_curve": [30]})
    fit_routers_of(recipe)
    data, name = parallel_set_of(recipe), recipe.router.backbone.name
    router, tokenizer = build_router(name, TEACHERS), load_tokenizer(name)
    features_PD = prompt_features(router, tokenizer, data.conversations)
    wins_PMM = preferences(data.rewards_PM)
    rows = [{"features": f, "wins": w} for f, w in zip(features_PD, wins_PMM, strict=True)]
    fit, out = chosen(rows, ~data.heldout_P), chosen(rows, data.heldout_P)
    fit_router(router, tokenizer, fit[:30], out, recipe.router, tmp_path / "fit")
    logits_PM = router.head(torch.stack([row["features"] for row in out])).detach().numpy()
    found_PM = facts_of(recipe)["heldout_logits"]["30"]
    np.testing.assert_allclose(found_PM, logits_PM, atol=1e-5)


def test_only_the_first_worker_leaves_something(rewarded: Make) -> None:
    recipe = rewarded()
    assert fit_routers_of(recipe, is_first=False) == NUM_FIT
    assert not run_of(recipe).router.exists()


def test_transfer_fits_without_each_task_and_on_each_alone(rewarded: Make) -> None:
    recipe = rewarded({"router.transfer": True})
    seen: dict[str, int] = {}
    data = parallel_set_of(recipe)
    for task, is_out in zip(data.tasks, data.heldout_P, strict=True):
        assert task is not None
        seen[task] = seen.get(task, 0) + (not is_out)
    fit_routers_of(recipe)
    transfer = facts_of(recipe)["transfer"]
    assert transfer["heldout_tasks"] == chosen(data.tasks, data.heldout_P)
    fits = {tuple(fit["fitted_on"]): fit for fit in transfer["fits"]}
    for fitted_on, fit in fits.items():
        assert fit["num_fit"] == sum(seen[task] for task in fitted_on)
        assert np.shape(fit["heldout_logits"]) == (120 - NUM_FIT, 3)
    others = {tuple(sorted(seen.keys() - {task})) for task in seen}
    assert {fitted_on for fitted_on in fits if len(fitted_on) == 3} == others
    alone = {(task,) for task in seen if seen[task] >= 20}
    assert {fitted_on for fitted_on in fits if len(fitted_on) == 1} == alone
    assert {tuple(part) for part in transfer["skipped"]} == {(task,) for task in seen} - alone
    assert 0 < len(alone) < 4
    logits = [np.array(fit["heldout_logits"]) for fit in fits.values()]
    assert not any(np.allclose(logits[0], other, atol=1e-4) for other in logits[1:])


def test_a_fit_on_some_tasks_knows_nothing_of_the_others(rewarded: Make) -> None:
    found: list[Any] = []
    for upside_down in ("", "task-0"):
        recipe = rewarded({"router.transfer": True}, upside_down=upside_down)
        fit_routers_of(recipe)
        found.append(facts_of(recipe)["transfer"]["fits"])
    assert len(found[0]) > 4
    for old, new in zip(*found, strict=True):
        assert old["fitted_on"] == new["fitted_on"]
        is_same = old["heldout_logits"] == new["heldout_logits"]
        assert is_same == ("task-0" not in old["fitted_on"])


def test_two_tasks_are_not_fitted_twice_and_no_label_is_no_task(rewarded: Make) -> None:
    def label(number: int) -> str | None:
        return None if number % 5 == 0 else "xy"[number % 2]

    recipe = rewarded({"router.transfer": True}, label)
    fit_routers_of(recipe)
    transfer = facts_of(recipe)["transfer"]
    assert [fit["fitted_on"] for fit in transfer["fits"]] == [["y"], ["x"]]
    data = parallel_set_of(recipe)
    labelled = [task for task, out in zip(data.tasks, data.heldout_P, strict=True) if not out]
    for fit in transfer["fits"]:
        assert fit["num_fit"] == labelled.count(fit["fitted_on"][0])
    assert None in transfer["heldout_tasks"]


def test_transfer_without_tasks_is_refused(rewarded: Make) -> None:
    recipe = rewarded({"router.transfer": True}, label=lambda _: None)
    with pytest.raises(ConfigError, match=r"two tasks or more; found \[\]"):
        fit_routers_of(recipe)
