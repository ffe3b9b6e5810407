"""One Ray of this machine for all tests here that do not start their own."""

from collections.abc import Callable, Iterator

import pytest

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.runtime.session import Cluster, session


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with session() as started:
        yield started


@pytest.fixture
def small_recipe(make_recipe: Callable[..., Recipe]) -> Recipe:
    """Three scripted teachers on 240 parallel prompts in shards of 3."""
    changes = {"prompts.num_parallel": 240, "prompts.num_heldout": 0, "prompts.shard_rows": 3}
    return make_recipe(changes, num_prompts=250)
