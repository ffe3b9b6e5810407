"""Route: logits in pool order, and which teachers can take a prompt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.errors import ConfigError, PoolMismatchError
from persyn_ray.models.load import load_tokenizer
from persyn_ray.models.router import build_router, save_router
from persyn_ray.stages.route import Route
from persyn_ray.teachers import Teacher

Prompts = Callable[..., pa.Table]


@pytest.fixture
def router(random_llama: str, tmp_path: Path) -> Path:
    folder = tmp_path / "router"
    save_router(build_router(random_llama, ("a", "b")), load_tokenizer(random_llama), folder)
    return folder


def teachers(*names: str, **engines: dict[str, Any]) -> tuple[Teacher, ...]:
    scripted = {"kind": "scripted"}
    return tuple(
        Teacher.model_validate({"name": name, "engine": engines.get(name, scripted)})
        for name in names
    )


def test_every_prompt_has_a_logit_for_each_teacher(router: Path, prompts: Prompts) -> None:
    asked = prompts(("Add 1 and 2.", None), ("Sort this.", None), ("Go", None))
    route = Route(router, teachers("a", "b"), 128)
    table = route(asked)
    assert table.schema.metadata == {b"teachers": b"a\x1fb"}
    assert [len(row) for row in table["logits"].to_pylist()] == [2, 2, 2]
    assert table["candidates"].to_pylist() == [[True, True]] * 3
    turned = route(asked.take([2, 0, 1])).to_pylist()
    for row, other in zip([turned[1], turned[2], turned[0]], table.to_pylist(), strict=True):
        assert row["prompt_id"] == other["prompt_id"]
        assert row["logits"] == pytest.approx(other["logits"], abs=1e-5)


def test_a_teacher_whose_context_is_too_short_is_no_candidate(
    router: Path, tiny_context: str, prompts: Prompts
) -> None:
    tiny = {"kind": "transformers", "model": {"name": tiny_context}}
    route = Route(router, teachers("a", "b", b=tiny), 128)
    table = route(prompts(("Hi", None), ("x" * 200, None)))
    assert table["candidates"].to_pylist() == [[True, True], [True, False]]


@pytest.mark.parametrize("names", [("b", "a"), ("a", "b", "c"), ("a",)])
def test_a_router_made_for_another_pool_or_order_is_refused(
    router: Path, names: tuple[str, ...]
) -> None:
    with pytest.raises(PoolMismatchError, match="was made for the teachers"):
        Route(router, teachers(*names), 128)


def test_a_folder_without_a_router_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no router"):
        Route(tmp_path, teachers("a"), 128)
