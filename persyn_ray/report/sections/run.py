"""Section run: the identity of the run, its recipe, and how its prompts were split.

In report.json:

    run           name, recipe {}, fingerprint, created, versions {},
                  hardware {cpus, memory_gib, gpus}, student, quality_kind, learnability_kind,
                  alpha, scaling, seed
    prompts       num_loaded, num_duplicates, num_parallel, num_routed, num_heldout
"""

from collections.abc import Mapping
from typing import Any, TypedDict

import yaml

from persyn_ray.escaping import visible
from persyn_ray.recipe.scoring import CHECK_KINDS

NOT_MEASURED = {
    "prompts": "the prompts were not counted.",
}
"""Why a part may be missing, in HTML."""


class Hardware(TypedDict):
    cpus: float | None
    memory_gib: float | None
    gpus: float | None


class RunSummary(TypedDict):
    name: str | None
    recipe: dict[str, Any]
    fingerprint: str | None
    created: str | None
    versions: dict[str, str]
    hardware: Hardware | None
    student: str | None
    quality_kind: str | None
    learnability_kind: str | None
    alpha: float | None
    scaling: str | None
    seed: int | None


class Prompts(TypedDict):
    num_loaded: int | None
    num_duplicates: int | None
    num_parallel: int | None
    num_routed: int | None
    num_heldout: int | None


def recipe_text(content: Mapping[str, Any]) -> str:
    """The recipe as YAML; characters that would act on a page stand as escapes of YAML."""
    recipe = (content.get("run") or {}).get("recipe") or {}
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100)
    if visible(text) != text:
        text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=False, width=100)
    return text


def has_exact_quality(run: RunSummary | None) -> bool:
    """Whether quality is a share of right answers."""
    return bool(run and run["quality_kind"] in CHECK_KINDS)
