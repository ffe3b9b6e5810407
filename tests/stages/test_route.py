"""Route: logits in pool order, and which teachers can take a prompt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from persyn_ray.errors import ConfigError, PoolMismatchError
from persyn_ray.method.novelty import Novelty
from persyn_ray.models.load import load_tokenizer
from persyn_ray.models.router.frozen import prompt_features
from persyn_ray.models.router.model import build_router, load_router, router_logits, save_router
from persyn_ray.recipe.router import RouterConfig as RouterSettings
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.stages.embed import Embed
from persyn_ray.stages.route import NOVELTY_FILE, RoutePrompts

Prompts = Callable[..., pa.Table]


@pytest.fixture
def router(random_llama: str, tmp_path: Path) -> Path:
    folder = tmp_path / "router"
    save_router(build_router(random_llama, ("a", "b")), load_tokenizer(random_llama), folder)
    return folder


def teachers(*names: str, **engines: dict[str, Any]) -> tuple[TeacherConfig, ...]:
    scripted = {"kind": "scripted"}
    return tuple(
        TeacherConfig.model_validate({"name": name, "engine": engines.get(name, scripted)})
        for name in names
    )


def test_every_prompt_has_a_logit_for_each_teacher(router: Path, prompts: Prompts) -> None:
    asked = prompts(("Add 1 and 2.", None), ("Sort this.", None), ("Go", None))
    route = RoutePrompts(router, teachers("a", "b"), 128)
    table, novelty = route(asked)
    assert novelty is None
    assert table.schema.metadata == {b"teachers": b"a\x1fb"}
    assert [len(row) for row in table["logits"].to_pylist()] == [2, 2, 2]
    assert table["candidates"].to_pylist() == [[True, True]] * 3
    turned = route(asked.take([2, 0, 1]))[0].to_pylist()
    for row, other in zip([turned[1], turned[2], turned[0]], table.to_pylist(), strict=True):
        assert row["prompt_id"] == other["prompt_id"]
        assert row["logits"] == pytest.approx(other["logits"], abs=1e-5)


def test_a_teacher_whose_context_is_too_short_is_no_candidate(
    router: Path, tiny_context: str, prompts: Prompts
) -> None:
    tiny = {"kind": "transformers", "model": {"name": tiny_context}}
    route = RoutePrompts(router, teachers("a", "b", b=tiny), 128)
    table, _ = route(prompts(("Hi", None), ("x" * 200, None)))
    assert table["candidates"].to_pylist() == [[True, True], [True, False]]


def test_a_retired_teacher_keeps_its_logit_and_takes_nothing(
    router: Path, prompts: Prompts
) -> None:
    asked = prompts(("Add 1 and 2.", None), ("Go", None))
    gone = {"kind": "transformers", "model": {"name": "a-folder-that-is-gone"}}
    all_work, one_left = teachers("a", "b"), teachers("a", "b", b=gone)
    retired = (one_left[0], one_left[1].model_copy(update={"retired": True}))
    before, after = (RoutePrompts(router, pool, 128)(asked)[0] for pool in (all_work, retired))
    assert after["logits"] == before["logits"]
    assert after["candidates"].to_pylist() == [[True, False]] * 2
    assert before["candidates"].to_pylist() == [[True, True]] * 2


def test_somebody_has_to_be_left(router: Path) -> None:
    retired = [t.model_copy(update={"retired": True}) for t in teachers("a", "b")]
    with pytest.raises(ConfigError, match="Every teacher is retired"):
        RoutePrompts(router, tuple(retired), 128)


@pytest.mark.parametrize("names", [("b", "a"), ("a", "b", "c"), ("a",)])
def test_a_router_made_for_another_pool_or_order_is_refused(
    router: Path, names: tuple[str, ...]
) -> None:
    with pytest.raises(PoolMismatchError, match="was made for the teachers"):
        RoutePrompts(router, teachers(*names), 128)


def test_a_folder_without_a_router_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no router"):
        RoutePrompts(tmp_path, teachers("a"), 128)


def test_a_router_with_its_parallel_set_tells_prompts_that_are_unlike_it(
    router: Path, prompts: Prompts
) -> None:
    alike = [f"Add {number} and {number + 1}." for number in range(40)]
    model, tokenizer = load_router(router)
    talks = [[{"role": "user", "content": text}] for text in alike]
    features_PD = prompt_features(model, tokenizer, talks).numpy()
    fitted = Novelty.fit(features_PD)
    fitted.save(router / NOVELTY_FILE)
    asked = prompts((alike[3], None), ("?!" * 30, None))
    logits, novelty = RoutePrompts(router, teachers("a", "b"), 128)(asked)
    assert novelty is not None
    assert novelty["prompt_id"].to_pylist() == logits["prompt_id"].to_pylist()
    assert novelty["is_novel"].to_pylist() == [False, True]
    np.testing.assert_allclose(
        novelty["distance"].to_numpy()[:1], fitted.distance(features_PD[3:4]), atol=1e-5
    )
    expected_PM = router_logits(model, tokenizer, [[{"role": "user", "content": alike[3]}]])
    np.testing.assert_allclose(logits["logits"].to_pylist()[:1], expected_PM, atol=1e-5)


def test_embeddings_are_those_of_the_backbone_before_any_fit(
    random_llama: str, prompts: Prompts
) -> None:
    settings = RouterSettings.model_validate({"backbone": {"name": random_llama}})
    asked = prompts(("Add 1 and 2.", None), ("Go", None))
    table = Embed(settings, ("a", "b"))(asked)
    again = Embed(settings.model_copy(update={"seed": 7}), ("a",))(asked)
    assert table.equals(again)
    rows = np.array(table["embedding"].to_pylist())
    assert rows.shape[0] == 2
    assert np.isfinite(rows).all()
    assert not np.allclose(rows[0], rows[1])
