"""The cheap part of a check, which `persyn run` does itself: teachers in; a refusal out, if any.

Prompts, templates and endpoints are tried by the steps that read them, before a teacher is paid.
"""

from collections.abc import Sequence

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.check.findings import problems
from persyn_ray.pipeline.check.machine_checks import check_keys, check_packages, is_on_cluster
from persyn_ray.recipe.scoring import ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.recipe.training import EvaluateConfig

ASKING = ("collect", "synthesize")
"""Steps in which teachers are asked."""


def require_ready(
    teachers: Sequence[TeacherConfig],
    scoring: ScoringConfig,
    evaluate: EvaluateConfig,
    steps: Sequence[str],
) -> None:
    """Refuse, before Ray starts, a new run that could not ask its teachers from this machine.

    Args:
        steps: those that are to be carried out.

    Raises:
        ConfigError: with every key and package that is missing, and what to do.
    """
    if is_on_cluster() or not set(ASKING) & set(steps):
        return
    found = problems(check_keys(teachers, scoring))
    found += problems(check_packages(teachers, scoring, evaluate))
    lines = [f"{finding.detail} {finding.fix or ''}".rstrip() for finding in found]
    if lines:
        raise ConfigError("\n".join(dict.fromkeys(lines)))
