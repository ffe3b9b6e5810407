"""The recipes of the paper's two settings: they load, they plan offline, and their teachers fit."""

from pathlib import Path

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.plan.placement import deployment_of, gpu_teachers, place_teachers
from persyn_ray.pipeline.plan.plan import on_cluster, plan_run
from persyn_ray.recipe.recipe import Recipe, load_recipe
from persyn_ray.shards.score import check_of

JOBS = Path(__file__).parents[2] / "jobs"
TEACHERS = {"instruct": 19, "math": 15}
setting = pytest.mark.parametrize("name", TEACHERS)


def recipe(name: str, run: Path | str = "nowhere/run") -> Recipe:
    return load_recipe(JOBS / f"{name}.yaml", (f"run={run}",))


@setting
def test_the_paper_s_numbers_are_kept(name: str) -> None:
    found = recipe(name)
    assert len(found.pool) == TEACHERS[name]
    assert found.prompts.num_parallel == 2500
    assert found.scoring.alpha == 0.4
    assert found.student.name == "Qwen/Qwen2.5-1.5B"
    assert found.router.backbone.name == "Qwen/Qwen2.5-1.5B"
    assert {teacher.licence is not None for teacher in found.teachers} == {True}


@setting
def test_every_teacher_fits_the_recipe_s_own_hardware(name: str) -> None:
    found = recipe(name)
    assert found.hardware.gpu_memory_gib == 80
    placed = place_teachers(deployment_of(found))
    assert set(placed) == {teacher.name for teacher in gpu_teachers(found.teachers)}
    for one in placed.values():
        assert one.need.total <= one.gpu.usable_bytes < 80 * 2**30
        assert one.smallest is not None
        assert one.smallest.workers <= one.layout.workers
        assert one.model.weight_bytes / one.layout.workers < one.need.total


@setting
def test_weights_are_two_bytes_a_parameter_but_for_those_in_fp8(name: str) -> None:
    found = recipe(name)
    one_byte = {"llama-3.1-405b", "deepseek-r1"}
    for teacher, one in place_teachers(deployment_of(found)).items():
        assert one.model.weight_bytes / one.model.parameters == (1 if teacher in one_byte else 2)


@setting
def test_the_plan_needs_no_network(name: str, tmp_path: Path) -> None:
    plan = plan_run(recipe(name, tmp_path / "run"))
    routed = {"instruct": 47_500, "math": 7_500}[name]
    assert (plan.num_prompts["parallel"], plan.num_prompts["routed"]) == (2500, routed)
    assert plan.responses_collect == 2500 * TEACHERS[name]
    assert any("counted as the recipe says" in note for note in plan.notes)
    collect, later = plan.anew
    for part in (collect, later, plan.everything):
        assert part.seconds is not None
        assert part.dollars is not None
        assert part.schedule is not None
    assert collect.gpu_seconds + later.gpu_seconds < plan.everything.gpu_seconds
    assert not (tmp_path / "run").exists()


def test_one_node_cannot_hold_deepseek_r1() -> None:
    with pytest.raises(ConfigError) as refused:
        place_teachers(deployment_of(on_cluster(recipe("math"), "1x8x80")))
    text = str(refused.value)
    assert "Teacher 'deepseek-r1' needs 16 GPUs" in text
    assert "there are 8" in text
    assert text.count("Teacher ") == 1


def test_half_a_node_cannot_hold_405b_and_one_node_can() -> None:
    found = recipe("instruct")
    assert "llama-3.1-405b" in place_teachers(deployment_of(on_cluster(found, "1x8x80")))
    with pytest.raises(ConfigError, match=r"'llama-3\.1-405b' needs 8 GPUs in one node"):
        place_teachers(deployment_of(on_cluster(found, "1x4x80")))


@setting
def test_students_are_evaluated_with_as_many_tokens_as_they_learned_from(
    name: str, tmp_path: Path
) -> None:
    found = recipe(name, tmp_path / "run")
    assert not any("evaluate.max_tokens" in text for text in plan_run(found).warnings)
    longest = [t.sampling.retry_tokens or t.sampling.max_tokens for t in found.teachers]
    is_evaluated = check_of(found.evaluate, found.scoring) is not None
    assert is_evaluated == (name == "math")
    assert found.evaluate.max_tokens >= max(longest) or not is_evaluated


def test_thinking_is_kept_and_what_is_cut_goes_to_the_next_best() -> None:
    found = recipe("math")
    assert found.scoring.quality.kind == "exact_answer"
    assert (found.responses.thinking, found.responses.incomplete) == ("keep", "next_best")
    thinking = [t.name for t in found.teachers if t.sampling.retry_tokens is not None]
    assert "deepseek-r1" in thinking
    assert 0 < len(thinking) < len(found.pool)
    assert found.prompts.template.endswith("\\boxed{}.")


def test_programs_are_checked_and_students_too(tmp_path: Path) -> None:
    found = recipe("code", tmp_path / "run")
    assert found.scoring.quality.kind == "unit_tests"
    assert check_of(found.evaluate, found.scoring) == found.scoring.quality
    assert set(place_teachers(deployment_of(found))) == set(found.pool.names)
    plan = plan_run(found)
    assert (plan.num_prompts["parallel"], plan.num_prompts["routed"]) == (2500, 17_500)
