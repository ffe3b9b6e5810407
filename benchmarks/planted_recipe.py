"""The recipe of runs that benchmarks plant: a run folder and names of teachers in, a recipe out."""

from collections.abc import Sequence
from pathlib import Path

from persyn_ray.recipe.recipe import Recipe, parse_recipe


def planted_recipe(root: Path, teachers: Sequence[str]) -> Recipe:
    """Scripted teachers, answers that can be checked, and models without weights."""
    data = {
        "run": str(root),
        "student": {"name": "random:llama"},
        "teachers": [{"name": name, "engine": {"kind": "scripted"}} for name in teachers],
        "prompts": {"path": "prompts.jsonl", "reference_column": "answer"},
        "scoring": {"quality": {"kind": "exact_match"}},
        "router": {"backbone": {"name": "random:llama"}},
    }
    return parse_recipe(data, "benchmark")
