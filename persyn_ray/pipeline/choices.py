"""What follows from a recipe's choices: methods compared, splits collected, students evaluated."""

from persyn_ray.config import Recipe
from persyn_ray.layout import BEFORE, PERSYN
from persyn_ray.stages.work import check_of


def assigned_methods(recipe: Recipe) -> tuple[str, ...]:
    """PerSyn, and the baselines whose students are compared with it."""
    return (PERSYN, *(recipe.compare.methods if recipe.compare.students else ()))


def collected_splits(recipe: Recipe) -> tuple[str, ...]:
    """Splits that every teacher answers: the parallel set, and what the references need."""
    splits = ["parallel"]
    if recipe.compare.heldout:
        splits.append("heldout")
    if "oracle" in assigned_methods(recipe):
        splits.append("routed")
    return tuple(splits)


def students(recipe: Recipe) -> tuple[str, ...]:
    """The student before fine-tuning and one per method; none when answers cannot be checked."""
    return () if check_of(recipe) is None else (BEFORE, *assigned_methods(recipe))
