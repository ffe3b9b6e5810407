"""Recipes whose teachers stand on GPUs that nobody has."""

from collections.abc import Callable
from typing import Any

import pytest

from persyn_ray.recipe.recipe import Recipe

SIZE = {"parameters": 8.03, "layers": 32, "kv_heads": 8, "head_dim": 128, "context": 8192}
HARDWARE = {"nodes": 1, "gpus_per_node": 8, "gpu_memory_gib": 80, "gpu_hour_dollars": 2.0}


def gpu_teacher(name: str, **changes: Any) -> dict[str, Any]:
    """A teacher of 8B in bfloat16 on one GPU; changes replace its keys."""
    model = {"name": f"nowhere/{name}", "dtype": "bfloat16"}
    return {
        "name": name,
        "engine": {"kind": "vllm", "model": model},
        "sampling": {"max_tokens": 100},
        "resources": {},
        "size": SIZE,
        **changes,
    }


@pytest.fixture
def on_gpus(make_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """A recipe of teachers on one node of eight GPUs; teachers are given as (name, changes)."""

    def make(teachers: dict[str, dict[str, Any]], changes: dict[str, Any] | None = None) -> Recipe:
        made = [gpu_teacher(name, **given) for name, given in teachers.items()]
        fitting = {"hardware": dict(HARDWARE), "evaluate.max_tokens": 2000}
        return make_recipe({"teachers": made} | fitting | (changes or {}))

    return make
