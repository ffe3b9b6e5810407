"""A router joined by new teachers: nobody else's column moves, and a probe is enough."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from persyn_ray.errors import ConfigError, DataError, PoolMismatchError
from persyn_ray.method.metrics import hit_at_k
from persyn_ray.method.new_teacher import new_column
from persyn_ray.method.planted import specialists
from persyn_ray.models.load import load_tokenizer
from persyn_ray.models.router.frozen import prompt_features
from persyn_ray.models.router.model import (
    Router,
    build_router,
    load_router,
    router_logits,
    save_router,
)
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.fit_router import fit_routers
from persyn_ray.shards.parallel_set import ParallelSet, chosen, parallel_set
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.schemas import rewards_schema

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
WORLD = specialists(4, ("a", "b", "c"), noise=0.02)


@pytest.fixture
def old_router(random_llama: str, tmp_path: Path) -> Path:
    """A router for c and a whose head is fitted to their rewards, as well as features allow."""
    router, tokenizer = build_router(random_llama, ("c", "a")), load_tokenizer(random_llama)
    prompts = WORLD.prompts(400)[200:]
    conversations = [[{"role": "user", "content": prompt.text}] for prompt in prompts]
    features_PD = prompt_features(router, tokenizer, conversations)  # pyright: ignore
    rewards_PM = torch.from_numpy(WORLD.rewards([p.text for p in prompts])).float()[:, [2, 0]]
    inputs = torch.column_stack([features_PD, torch.ones(len(prompts))])
    columns = torch.linalg.lstsq(inputs, 3 * rewards_PM).solution.T
    with torch.no_grad():
        router.head.weight.copy_(columns[:, :-1])
        router.head.bias.copy_(columns[:, -1])
    save_router(router, tokenizer, tmp_path / "old")
    return tmp_path / "old"


@pytest.fixture
def joining(make_recipe: Make, carry_out: CarryOut, old_router: Path, tmp_path: Path) -> Make:
    """A recipe that extends the old router; b is known on the prompts that are asked for."""

    def make(known: Callable[[int], bool] = lambda _: True, **changes: Any) -> Recipe:
        path = tmp_path / "prompts.jsonl"
        rows = [{"prompt": p.text, "answer": 1, "task": None} for p in WORLD.prompts(200)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        given = {
            "router.extend": str(old_router),
            "router.backbone.name": "never-loaded",
            "prompts.num_parallel": 200,
            "prompts.num_heldout": 0,
        }
        recipe = make_recipe(given | changes)
        run = carry_out(recipe, until="prompts")
        for shard in shards_of(run, "parallel"):
            _reward(recipe, run, shard, known)
        return recipe

    return make


def _reward(recipe: Recipe, run: RunLayout, shard: str, known: Callable[[int], bool]) -> None:
    prompts = run.prompts.read_table(shard).to_pylist()
    texts = [row["messages"][-1]["content"] for row in prompts]
    of = dict(zip("abc", WORLD.rewards(texts).T, strict=True))
    rewards_PM = np.stack([of.get(name, of["b"]) for name in recipe.pool.names], axis=1)
    values = [
        [
            None if name == "b" and not known(place) else float(value)
            for name, value in zip(recipe.pool.names, rewards_M, strict=True)
        ]
        for place, rewards_M in enumerate(rewards_PM)
    ]
    columns = dict.fromkeys(("learnability", "quality", "rewards"), values)
    ids = [row["prompt_id"] for row in prompts]
    schema = rewards_schema(recipe.pool.names)
    run.rewards.write_table(shard, pa.table({"prompt_id": ids, **columns}, schema=schema))


def fit_routers_of(recipe: Recipe) -> int:
    return fit_routers(run_of(recipe), recipe.router, recipe.pool)


def parallel_set_of(recipe: Recipe) -> ParallelSet:
    return parallel_set(run_of(recipe), len(recipe.pool), recipe.router)


def loaded(recipe: Recipe) -> tuple[Router, Any]:
    return load_router(run_of(recipe).router.local_path, recipe.pool.names)


def test_a_new_teacher_joins_and_no_other_column_moves(joining: Make, old_router: Path) -> None:
    recipe = joining()
    num_fit = fit_routers_of(recipe)
    (old, _), (new, tokenizer) = load_router(old_router), loaded(recipe)
    for name, place in (("a", 1), ("c", 0)):
        ours = recipe.pool.index(name)
        assert torch.equal(new.head.weight[ours], old.head.weight[place])
        assert torch.equal(new.head.bias[ours], old.head.bias[place])
    kept = dict(old.backbone.named_parameters())
    assert all(torch.equal(value, kept[name]) for name, value in new.backbone.named_parameters())
    facts, data = run_of(recipe).router.read_json("fit.json"), parallel_set_of(recipe)
    assert facts.keys() == {"num_fit", "loss_curve", "heldout_logits", "extended"}
    assert facts["num_fit"] == num_fit == int((~data.heldout_P).sum())
    assert facts["loss_curve"] == []
    assert facts["extended"]["kept"] == ["c", "a"]
    assert facts["extended"]["columns"].keys() == {"b"}
    assert facts["extended"]["columns"]["b"]["num_pairs"] == 2 * num_fit
    out = chosen(data.conversations, data.heldout_P)
    logits_PM = router_logits(new, tokenizer, out)
    np.testing.assert_allclose(facts["heldout_logits"][str(num_fit)], logits_PM, atol=1e-4)


def test_the_column_is_that_of_the_method_on_what_is_not_held_out(
    joining: Make, old_router: Path
) -> None:
    recipe = joining(known=lambda place: place % 2 == 0)
    fit_routers_of(recipe)
    facts = run_of(recipe).router.read_json("fit.json")["extended"]["columns"]["b"]
    (old, tokenizer), (new, _) = load_router(old_router), loaded(recipe)
    data = parallel_set_of(recipe)
    known_P = ~data.heldout_P & ~np.isnan(data.rewards_PM[:, 1])
    assert facts["num_prompts"] == int(known_P.sum()) < int((~data.heldout_P).sum())
    features_PD = prompt_features(old, tokenizer, data.conversations).double().numpy()[known_P]
    weights_MD, biases_M = (value.detach().double().numpy() for value in old.head.parameters())
    rewards_PM = data.rewards_PM[known_P]
    # Other folds may choose another l2 of the grid, but nothing else.
    columns = [
        new_column(features_PD, weights_MD, biases_M, rewards_PM[:, [2, 0]], rewards_PM[:, 1], fold)
        for fold in (np.arange(known_P.sum()) % k for k in range(2, 9))
    ]
    (same, *_) = [column for column in columns if column.l2 == facts["l2"]]
    assert same.temperature == pytest.approx(facts["temperature"], rel=1e-5)
    weight_D = new.head.weight[1].detach().double().numpy()
    np.testing.assert_allclose(weight_D, same.weight_D, atol=1e-4)


def test_the_new_teacher_is_found_where_it_is_the_best(joining: Make, old_router: Path) -> None:
    recipe = joining()
    fit_routers_of(recipe)
    (old, tokenizer), (new, _) = load_router(old_router), loaded(recipe)
    data = parallel_set_of(recipe)
    out, rewards_PM = chosen(data.conversations, data.heldout_P), data.rewards_PM[data.heldout_P]
    before_PM = np.full(rewards_PM.shape, np.nan)
    before_PM[:, [2, 0]] = router_logits(old, tokenizer, out)
    before = hit_at_k(before_PM, rewards_PM, 1).mean()
    after = hit_at_k(router_logits(new, tokenizer, out), rewards_PM, 1).mean()
    assert after > before + 0.1


def test_with_nobody_new_a_router_is_used_as_it_is(joining: Make, old_router: Path) -> None:
    teachers = [{"name": name, "engine": {"kind": "scripted"}} for name in "ac"]
    recipe = joining(teachers=teachers)
    assert fit_routers_of(recipe) == 0
    (old, tokenizer), (new, _) = load_router(old_router), loaded(recipe)
    facts, data = run_of(recipe).router.read_json("fit.json"), parallel_set_of(recipe)
    assert facts["extended"]["columns"] == {}
    logits_PM = router_logits(old, tokenizer, chosen(data.conversations, data.heldout_P))
    np.testing.assert_allclose(facts["heldout_logits"]["0"], logits_PM[:, [1, 0]], atol=1e-5)
    assert torch.equal(new.head.weight, old.head.weight[[1, 0]])


def test_a_teacher_that_has_left_the_pool_is_named(joining: Make) -> None:
    teachers = [{"name": name, "engine": {"kind": "scripted"}} for name in "ab"]
    with pytest.raises(PoolMismatchError, match=r"fitted for \['c'\] too.*retired: true"):
        fit_routers_of(joining(teachers=teachers))


def test_a_new_teacher_without_a_reward_is_named(joining: Make) -> None:
    with pytest.raises(DataError, match=r"'b' cannot join the router: .*num_probe"):
        fit_routers_of(joining(known=lambda _: False))


def test_a_folder_without_a_router_is_refused(joining: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no router"):
        fit_routers_of(joining(**{"router.extend": str(tmp_path)}))
