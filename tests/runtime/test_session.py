"""A recipe is held against the cluster before anything starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.runtime.session import Cluster, check_fits

Make = Callable[..., Recipe]
TWO_NODES = Cluster(cpus=8, gpus=2, memory_gib=32, largest_node_cpus=4, largest_node_gpus=1)


def require_fits(recipe: Recipe, cluster: Cluster) -> None:
    check_fits(recipe.run, recipe.resources, cluster)


def test_what_fits_passes_up_to_the_last_cpu(make_recipe: Make) -> None:
    require_fits(make_recipe(), TWO_NODES)
    full = {
        "resources.collect": {"actors": 8, "cpus": 1},
        "resources.score": {"actors": 2, "cpus": 4, "gpus": 1},
        "resources.finetune": {"workers": 2, "cpus": 4, "gpus": 1},
        "resources.route": {"actors": 80, "cpus": 0.1},
    }
    require_fits(make_recipe(full), TWO_NODES)


@pytest.mark.parametrize(
    ("step", "resources", "words"),
    [
        ("collect", {"actors": 9, "cpus": 1}, ["9 actors x 1 CPUs = 9", "has 8 (largest node 4)"]),
        ("score", {"actors": 1, "cpus": 5}, ["1 actors x 5 CPUs = 5", "has 8 (largest node 4)"]),
        ("finetune", {"workers": 4, "gpus": 1}, ["4 workers x 1 GPUs = 4", "finetune.workers"]),
        ("router", {"workers": [3, 9], "gpus": 1}, ["3 workers x 1 GPUs = 3"]),
        ("router", {"gpus": 2}, ["x 2 GPUs = 2", "has 2 (largest node 1)", "router.gpus"]),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers_and_the_settings(
    make_recipe: Make, step: str, resources: dict[str, Any], words: list[str]
) -> None:
    recipe = make_recipe({f"resources.{step}": resources})
    with pytest.raises(
        ConfigError, match=f"Step {step} needs .* Lower resources.{step}"
    ) as refused:
        require_fits(recipe, TWO_NODES)
    assert all(word in str(refused.value) for word in words)


def test_an_empty_cluster_holds_nothing(make_recipe: Make) -> None:
    with pytest.raises(ConfigError, match="the cluster has 0"):
        require_fits(make_recipe(), Cluster(0, 0, 0, 0, 0))


def test_a_job_that_would_write_into_rays_copy_of_the_working_folder_is_refused(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(ConfigError, match=r"'runs/x'.*run=s3://"):
        require_fits(make_recipe({"run": "runs/x"}), TWO_NODES)
    for shared in (str(tmp_path / "run"), "s3://bucket/runs/x"):
        require_fits(make_recipe({"run": shared}), TWO_NODES)
