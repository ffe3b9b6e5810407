"""What models read in step score, by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from persyn_ray.pipeline.plan.forecasts.estimate import reckon
from persyn_ray.pipeline.plan.forecasts.known import forecast_settings, gather_known
from persyn_ray.pipeline.plan.forecasts.score import Reader, ScorePass, forecast_score
from persyn_ray.pipeline.plan.placement import deployment_of, place_teachers
from persyn_ray.pipeline.plan.plan import plan_run
from persyn_ray.pipeline.plan.prompt_counts import Counted
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.storage.layout import run_of

Make = Callable[..., Recipe]
SPLITS = {"parallel": 12, "heldout": 4, "routed": 8}
ACTORS = StepResourcesConfig(actors=4, cpus=1.0, gpus=1.0, threads=None)
NOWHERE = ModelConfig(name="nowhere/student")


@pytest.fixture
def model(tmp_path: Path) -> ModelConfig:
    """A model of 2,064,384 parameters: a config.json and no weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1,'
        ' "intermediate_size": 256, "num_hidden_layers": 8, "vocab_size": 1000, "head_dim": 64,'
        ' "tie_word_embeddings": true, "torch_dtype": "bfloat16"}'
    )
    return ModelConfig(name=str(folder), dtype="bfloat16")


def passes(recipe: Recipe, *readers: Reader) -> tuple[ScorePass, ...]:
    known = gather_known(
        forecast_settings(recipe),
        run_of(recipe),
        Counted(SPLITS, 20.0),
        place_teachers(deployment_of(recipe)),
        (),
    )
    return forecast_score(reckon(known, {"a": 12, "b": 12}), readers, recipe.hardware)


def test_the_student_reads_a_prompt_once_and_a_reward_model_with_every_response(
    on_gpus: Make,
) -> None:
    recipe = on_gpus({"a": {}, "b": {}})
    student, reward = passes(recipe, Reader(NOWHERE, ACTORS, True), Reader(NOWHERE, ACTORS, False))
    assert (student.responses, student.at_most, student.actors) == (24, True, 4)
    assert student.tokens == 2 * 12 * 100 + 12 * 20
    assert reward.tokens == 2 * 12 * 100 + 24 * 20
    assert student.seconds is reward.seconds is None


def test_time_goes_by_the_size_and_the_gpus(on_gpus: Make, model: ModelConfig) -> None:
    recipe = on_gpus({"a": {}, "b": {}}, {"hardware.read_gb_per_second": 1.0})
    (made,) = passes(recipe, Reader(model, ACTORS, True))
    # 8 layers of (2 + 1) x 128 x 128 attention and 3 x 128 x 256 feed-forward, and one table.
    parameters = 8 * (2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 256) + 1000 * 128
    computing = 2 * parameters * 2640 / (0.4 * 990e12 * 4)
    assert made.seconds == pytest.approx(parameters * 2 / 1e9 + computing)
    few = recipe.model_copy(
        update={"hardware": recipe.hardware.model_copy(update={"gpus_per_node": 2})}
    )
    (limited,) = passes(few, Reader(model, ACTORS, True))
    assert limited.actors == 2


def test_the_plan_reads_the_recipe(make_recipe: Make, on_gpus: Make) -> None:
    (student,) = plan_run(make_recipe()).score
    assert student.responses == 36
    assert student.seconds is None
    assert plan_run(make_recipe({"scoring.alpha": 0.0})).score == ()
    models = {"kind": "reward_model", "model": {"name": "nowhere/reward"}}
    both = plan_run(on_gpus({"a": {}}, {"scoring.quality": models})).score
    assert [one.model for one in both][1:] == ["nowhere/reward"]
