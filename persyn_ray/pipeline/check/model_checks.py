"""Checks of the models that read prompts: recipe sections and prompts in, findings out.

Tokenizers are loaded, and weights never. Offline nothing is fetched: a model that is not on this
machine is not tried.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.check.findings import Finding, refused
from persyn_ray.pipeline.check.prompt_checks import Prompts
from persyn_ray.pipeline.plan.model_sizes import local_folder
from persyn_ray.pipeline.plan.prompt_counts import without_network
from persyn_ray.pipeline.template_readers import Reader, makers_of
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import RewardModelConfig, ScoringConfig
from persyn_ray.report.numbers import count
from persyn_ray.storage.layout import parts_of

NOT_HERE = "{} is not on this machine: not looked at (--offline)."


def check_models(recipe: Recipe, offline: bool, prompts: Prompts) -> Iterator[Finding]:
    """Student, router and reward models: there, with a template that takes these prompts."""
    makers = makers_of(recipe.student, recipe.router, recipe.compare, recipe.scoring)
    models = _models(recipe.student.model, recipe.router.backbone, recipe.scoring)
    for setting, make in makers.items():
        model = models.get(setting)
        if offline and model is not None and not is_here(model):
            yield Finding(setting, "remark", NOT_HERE.format(model.name))
            continue
        with without_network() if offline else nullcontext():
            yield _checked(setting, make, prompts)


def is_here(model: ModelConfig) -> bool:
    """Whether a model can be read without the network."""
    return model.name.startswith("random:") or local_folder(model) is not None


def _models(
    student: ModelConfig, backbone: ModelConfig, scoring: ScoringConfig
) -> dict[str, ModelConfig]:
    """The models that may have to be fetched, by the settings that name them."""
    found = {"student": student, "router.backbone": backbone}
    parts = [part.quality for part in parts_of(scoring)]
    for number, quality in enumerate(parts):
        if isinstance(quality, RewardModelConfig):
            place = f".parts.{number}.quality" if len(parts) > 1 else ""
            found[f"scoring.quality{place}.model"] = quality.model
    return found


def _checked(setting: str, make: Callable[[], Reader], prompts: Prompts) -> Finding:
    try:
        reader = make()
        whys = [reader.why_unreadable(messages) for messages in prompts.conversations]
    except ConfigError as error:
        fix = f"Set {setting} to a folder or a hub name, with a chat template."
        return refused(setting, error, fix)
    except ImportError as error:
        return refused(setting, error, "pip install 'persyn-ray[run]'")
    unreadable = [why for why in whys if why is not None]
    tried = f"its template was tried on {count(len(whys))} prompts"
    if not unreadable:
        return Finding(setting, "ok", f"{reader.model}: {tried}." if whys else f"{reader.model}.")
    state = "problem" if len(unreadable) == len(whys) else "remark"
    detail = f"{reader.model}: {tried}, {count(len(unreadable))} cannot be read: {unreadable[0]}"
    return Finding(setting, state, detail, "Change those prompts, or set `chat_template`.")
