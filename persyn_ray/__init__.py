"""PerSyn on Ray: send each prompt to the teacher the student will learn most from.

    import persyn_ray as persyn

    student = persyn.Likelihood("Qwen/Qwen2.5-1.5B-Instruct")
    learnability = student.score(prompts, responses).mean_log_likelihood

Every name is loaded when it is first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from persyn_ray.checks.own_function import QualityRow
    from persyn_ray.client.http import AsyncRouterClient, RouterClient
    from persyn_ray.engines.base import Completion, Engine, Message, Request
    from persyn_ray.errors import ConfigError, DataError, DriftError, PersynError, StepError
    from persyn_ray.library.likelihood import Likelihood, Likelihoods, TokenLikelihoods
    from persyn_ray.library.recipes import (
        FinishedComparison,
        FinishedRun,
        compare,
        finished_run,
        plan,
        run,
    )
    from persyn_ray.library.rewards import rewards
    from persyn_ray.library.router import Router, Routes, fit_router, route
    from persyn_ray.pipeline.plan.plan import Plan
    from persyn_ray.recipe.base import ModelConfig, StudentConfig
    from persyn_ray.recipe.data import DatasetConfig, PromptsConfig, ResponsesConfig
    from persyn_ray.recipe.own_code import PythonEngineConfig, PythonQualityConfig
    from persyn_ray.recipe.recipe import Recipe, load_recipe
    from persyn_ray.recipe.router import RouterConfig
    from persyn_ray.recipe.scoring import ScoringConfig
    from persyn_ray.recipe.teachers import SamplingConfig, TeacherConfig
    from persyn_ray.recipe.training import EvaluateConfig, FinetuneConfig

__all__ = [
    "AsyncRouterClient",
    "Completion",
    "ConfigError",
    "DataError",
    "DatasetConfig",
    "DriftError",
    "Engine",
    "EvaluateConfig",
    "FinetuneConfig",
    "FinishedComparison",
    "FinishedRun",
    "Likelihood",
    "Likelihoods",
    "Message",
    "ModelConfig",
    "PersynError",
    "Plan",
    "PromptsConfig",
    "PythonEngineConfig",
    "PythonQualityConfig",
    "QualityRow",
    "Recipe",
    "Request",
    "ResponsesConfig",
    "Router",
    "RouterClient",
    "RouterConfig",
    "Routes",
    "SamplingConfig",
    "ScoringConfig",
    "StepError",
    "StudentConfig",
    "TeacherConfig",
    "TokenLikelihoods",
    "compare",
    "finished_run",
    "fit_router",
    "load_recipe",
    "plan",
    "rewards",
    "route",
    "run",
]

_HOMES = {
    "checks.own_function": ("QualityRow",),
    "client.http": ("AsyncRouterClient", "RouterClient"),
    "engines.base": ("Completion", "Engine", "Message", "Request"),
    "errors": ("ConfigError", "DataError", "DriftError", "PersynError", "StepError"),
    "library.likelihood": ("Likelihood", "Likelihoods", "TokenLikelihoods"),
    "library.recipes": (
        *("FinishedComparison", "FinishedRun"),
        *("compare", "finished_run", "plan", "run"),
    ),
    "library.rewards": ("rewards",),
    "library.router": ("Router", "Routes", "fit_router", "route"),
    "pipeline.plan.plan": ("Plan",),
    "recipe.base": ("ModelConfig", "StudentConfig"),
    "recipe.data": ("DatasetConfig", "PromptsConfig", "ResponsesConfig"),
    "recipe.own_code": ("PythonEngineConfig", "PythonQualityConfig"),
    "recipe.recipe": ("Recipe", "load_recipe"),
    "recipe.router": ("RouterConfig",),
    "recipe.scoring": ("ScoringConfig",),
    "recipe.teachers": ("SamplingConfig", "TeacherConfig"),
    "recipe.training": ("EvaluateConfig", "FinetuneConfig"),
}
"""Where each public name lives."""


def __getattr__(name: str) -> Any:
    """A public name, from its module, when it is first asked for."""
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted({*globals(), *__all__})
