"""Parity of the ways to score, on a run's own responses."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline import doctor
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.stages.learnability import ToExamples
from persyn_ray.storage.layout import RunLayout


@pytest.fixture(autouse=True)
def _no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of engine start is spent in tests/runtime/test_vllm_teacher.py."""
    monkeypatch.setattr(
        doctor, "find_spec", lambda name: None if name == "vllm" else find_spec(name)
    )


def test_packed_float32_agrees_and_flips_nothing(finished: tuple[Recipe, RunLayout]) -> None:
    recipe, _ = finished
    reference, packed, half, vllm = doctor.examine(recipe, num_prompts=7)
    assert reference.parity is None
    assert packed.backend == "packed, float32"
    assert packed.parity is not None
    assert packed.parity.max_gap < 1e-5
    assert packed.parity.num_flips == 0
    assert packed.parity.num_pairs > 0
    assert half.parity is not None
    assert 1e-5 < half.parity.max_gap < 1
    assert vllm.note == "not installed"


def test_so_many_prompts_are_scored(finished: tuple[Recipe, RunLayout]) -> None:
    recipe, run = finished
    to_examples = ToExamples(recipe.student, None, recipe.responses, "null")
    prompts, examples = doctor._sample(run, recipe.teachers, to_examples, 7)
    assert len(set(prompts)) == 7
    assert len(prompts) == len(examples) == 7 * len(recipe.teachers)


def test_a_run_without_responses_is_told_what_to_do(make_recipe) -> None:
    with pytest.raises(ConfigError, match="--until collect"):
        list(doctor.examine(make_recipe(), 2))


def test_the_command_prints_a_table(finished: tuple[Recipe, RunLayout], tmp_path: Path) -> None:
    import yaml

    from persyn_ray.cli.main import app

    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(finished[0].model_dump(mode="json")))
    result = CliRunner().invoke(app, ["doctor", "scoring", str(path), "--prompts", "2"])
    assert result.exit_code == 0, result.output
    assert "packed, float32" in result.output
    assert " 0 of" in result.output
