"""A recipe as a file, for commands."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from persyn_ray.recipe.recipe import Recipe


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe], tmp_path: Path) -> Path:
    """A recipe of which nothing is wrong: 24 prompts, scripted teachers, a random student."""
    path = tmp_path / "recipe.yaml"
    made = make_recipe().model_dump(mode="json", exclude_unset=True)
    path.write_text(yaml.safe_dump(made))
    return path
