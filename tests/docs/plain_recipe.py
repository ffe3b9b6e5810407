"""A whole recipe of which each section may be replaced, for sections that documents show alone."""

from collections.abc import Mapping
from typing import Any

from persyn_ray.recipe.recipe import Recipe, parse_recipe

TEACHERS: list[Any] = [
    {"name": "weak", "engine": {"kind": "openai", "model": "small"}},
    {"name": "strong", "engine": {"kind": "openai", "model": "large"}},
]
PLAIN: dict[str, Any] = {
    "run": "runs/my-run",
    "student": {"name": "Qwen/Qwen2.5-0.5B"},
    "teachers": TEACHERS,
    "prompts": {"path": "prompts.jsonl", "reference_column": "answer", "num_heldout": 100},
    "scoring": {"quality": {"kind": "exact_answer"}},
    "router": {"backbone": {"name": "Qwen/Qwen2.5-0.5B"}},
}


def completed(shown: Mapping[str, Any], where: str) -> Recipe:
    """A recipe of what is shown: as it is where it is whole, else with the plain rest."""
    if "run" in shown and "student" in shown:
        return parse_recipe(shown, where)
    whole = dict(PLAIN)
    for name, section in shown.items():
        if name == "teachers":
            whole[name] = [*section, *TEACHERS]
        elif isinstance(section, dict):
            whole[name] = PLAIN.get(name, {}) | section
        else:
            whole[name] = section
    return parse_recipe(whole, where)
