"""What may be imported where, and the YAML files that are shipped."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from persyn_ray.recipe.recipe import load_recipe

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "ray", "transformers", "deepspeed", "datasets")
LIGHT = (
    "persyn_ray",
    "persyn_ray.cli.main",
    "persyn_ray.recipe.recipe",
    "persyn_ray.engines.base",
    "persyn_ray.engines.build",
    "persyn_ray.data.importers.gsm8k",
    "persyn_ray.storage.layout",
    "persyn_ray.method.planted",
    "persyn_ray.pipeline.plan.plan",
    "persyn_ray.pipeline.results.report",
    "persyn_ray.pipeline.runner",
    "persyn_ray.recipe.pool",
    "persyn_ray.data.prompts",
    "persyn_ray.storage.records",
    "persyn_ray.storage.schemas",
    "persyn_ray.shards.score",
    "persyn_ray.storage.folder",
    "persyn_ray.checks.verifier",
)


def loaded_by(code: str) -> str:
    """Heavy packages that a fresh interpreter has loaded after some code."""
    check = f"import sys\n{code}\nprint('|', *[m for m in {HEAVY} if m in sys.modules])"
    command = [sys.executable, "-c", check]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return ended.stdout.rpartition("|")[2].strip()


def test_recipes_tables_method_and_plans_need_neither_torch_nor_ray() -> None:
    assert loaded_by("\n".join(f"import {name}" for name in LIGHT)) == ""


def test_help_needs_neither_torch_nor_ray() -> None:
    code = (
        "from persyn_ray.cli.main import entry\n"
        "sys.argv = ['persyn', '--help']\n"
        "try:\n    entry()\nexcept SystemExit as ending:\n    assert not ending.code"
    )
    assert loaded_by(code) == ""


def test_the_method_needs_numpy_only() -> None:
    code = (
        "import persyn_ray.method.planted, persyn_ray.method.baselines\n"
        "import persyn_ray.method.metrics, persyn_ray.method.preferences\n"
        "assert not {'pyarrow', 'pydantic', 'yaml'} & set(sys.modules)"
    )
    assert loaded_by(code) == ""


def documents(folder: str) -> list[Path]:
    return sorted([*(ROOT / folder).glob("*.yaml"), *(ROOT / folder).glob("*.yml")])


@pytest.mark.parametrize("path", documents("jobs"), ids=lambda path: path.name)
def test_every_shipped_recipe_loads(path: Path) -> None:
    if "run" in yaml.safe_load(path.read_text()):
        assert len(load_recipe(path).pool) > 0


def test_every_cluster_file_is_yaml() -> None:
    for path in documents("cluster"):
        found = list(yaml.safe_load_all(path.read_text()))
        assert found, path
        assert all(isinstance(document, dict) for document in found), path


def test_no_shipped_recipe_names_a_place_on_one_machine() -> None:
    for path in documents("jobs"):
        assert "/work/" not in path.read_text()
        assert "/home/" not in path.read_text()
