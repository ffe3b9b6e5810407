"""What each step's identity hangs on: the part of the recipe it uses, and nothing more."""

from collections.abc import Callable
from typing import Any

import pytest

from persyn_ray.pipeline.choices import assigned_methods, collected_splits, students
from persyn_ray.pipeline.runner import planned_steps
from persyn_ray.pipeline.steps import STEP_NAMES, STEPS
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import BEFORE, PERSYN, run_of

Make = Callable[..., Recipe]


def teachers(*names: str, **settings: Any) -> list[dict[str, Any]]:
    return [{"name": name, "engine": {"kind": "scripted"}, **settings} for name in names]


def identities(recipe: Recipe) -> dict[str, str]:
    return {
        planned.step.name: planned.identity for planned in planned_steps(recipe, run_of(recipe))
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"resources.collect": {"actors": 7, "cpus": 2}},
        {"resources.finetune": {"workers": 4}},
        {"run": "/elsewhere"},
        {"name": "Another title"},
        {"scoring.tokens_per_batch": 99},
        {"evaluate.batch_size": 2},
        {"teachers": teachers("a", "b", "c", licence="mit")},
    ],
)
def test_execution_and_labels_change_no_identity(
    make_recipe: Make, changes: dict[str, Any]
) -> None:
    assert identities(make_recipe(changes)) == identities(make_recipe())


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"prompts.num_parallel": 11}, "prompts"),
        ({"prompts.shard_rows": 9}, "prompts"),
        ({"prompts.seed": 1}, "prompts"),
        ({"evaluate.path": "apart.jsonl"}, "prompts"),
        ({"teachers": teachers("a", "b")}, "collect"),
        ({"teachers": teachers("a", "b", "c", system_prompt="Be brief.")}, "collect"),
        ({"compare.heldout": True}, "collect"),
        # Another template may refuse other prompts, and then there are others.
        ({"student.name": "other"}, "prompts"),
        ({"student.chat_template": "{{ messages }}"}, "prompts"),
        ({"router.backbone.name": "other"}, "prompts"),
        ({"router.extend": "other/router"}, "prompts"),
        ({"student.dtype": "bfloat16"}, "score"),
        ({"router.backbone.dtype": "bfloat16"}, "router"),
        ({"scoring.max_length": 99}, "score"),
        # It may refuse references that the other can read, and then there are fewer prompts.
        ({"scoring.quality": {"kind": "exact_answer"}}, "prompts"),
        ({"scoring.quality": {"kind": "exact_match", "marker": "="}}, "score"),
        ({"scoring.local_window": 8}, "score"),
        ({"scoring.learnability": "rank_surprisal"}, "rewards"),
        ({"scoring.alpha": 0.5}, "rewards"),
        ({"scoring.scaling": "rank"}, "rewards"),
        ({"teachers": teachers("b", "a", "c")}, "rewards"),
        ({"router.seed": 5}, "router"),
        ({"compare.strong": "a"}, "route"),
        ({"responses.incomplete": "keep"}, "rewards"),
        ({"finetune.epochs": 9}, "finetune"),
        ({"evaluate.max_tokens": 9}, "evaluate"),
        ({"evaluate.limit": 9}, "evaluate"),
    ],
)
def test_a_change_reaches_the_step_that_uses_it_and_all_after_but_none_before(
    make_recipe: Make, changes: dict[str, Any], first: str
) -> None:
    before, after = identities(make_recipe()), identities(make_recipe(changes))
    changed = [name for name in before if before[name] != after[name]]
    assert changed == [step.name for step in STEPS][STEP_NAMES.index(first) :]


def several(*weights: float, marker: str = "#", **judge: Any) -> dict[str, Any]:
    engine = {"kind": "openai", "model": "tiny"}
    kinds = [
        {"kind": "exact_match", "marker": marker},
        {"kind": "judge", "engine": engine} | judge,
    ]
    parts = [
        {"name": f"part{number}", "quality": kind, "weight": weight}
        for number, (kind, weight) in enumerate(zip(kinds, weights, strict=True))
    ]
    return {"scoring.quality": {"kind": "several", "parts": parts}}


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        (several(1, 2), "rewards"),
        (several(1, 1, marker="="), "score"),
        (several(1, 1, highest=5), "score"),
        # Which references are read is told part by part, so prompts are split again (to the same).
        ({"scoring.quality": {"kind": "exact_match", "marker": "#"}}, "prompts"),
    ],
)
def test_weights_reach_the_rewards_and_parts_the_scores(
    make_recipe: Make, changes: dict[str, Any], first: str
) -> None:
    before, after = identities(make_recipe(several(1, 1))), identities(make_recipe(changes))
    changed = [name for name in before if before[name] != after[name]]
    assert changed == [step.name for step in STEPS][STEP_NAMES.index(first) :]


def test_a_judge_elsewhere_and_other_names_of_parts_change_no_identity(make_recipe: Make) -> None:
    recipe = several(1, 1)
    moved = several(1, 1, engine={"kind": "openai", "model": "tiny", "base_url": "http://x/v1"})
    moved["scoring.quality"]["parts"][0]["name"] = "other"
    assert identities(make_recipe(moved)) == identities(make_recipe(recipe))


def test_every_step_reads_from_earlier_ones_only() -> None:
    for number, step in enumerate(STEPS):
        assert set(step.reads) <= {earlier.name for earlier in STEPS[:number]}
    assert STEP_NAMES[-1] == "report"


def test_references_get_students_only_when_asked(make_recipe: Make) -> None:
    assert assigned_methods(make_recipe().compare) == (PERSYN,)
    recipe = make_recipe({"compare.students": True, "compare.methods": ["random", "strong"]})
    assert assigned_methods(recipe.compare) == (PERSYN, "random", "strong")
    assert students(recipe.compare, recipe.evaluate, recipe.scoring) == (
        BEFORE,
        PERSYN,
        "random",
        "strong",
    )


def test_all_teachers_answer_what_the_references_need(make_recipe: Make) -> None:
    assert collected_splits(make_recipe().compare) == ("parallel",)
    assert collected_splits(make_recipe({"compare.heldout": True}).compare) == (
        "parallel",
        "heldout",
    )
    oracle = make_recipe({"compare.students": True})
    assert collected_splits(oracle.compare) == ("parallel", "routed")
    others = make_recipe({"compare.students": True, "compare.methods": ["random"]})
    assert collected_splits(others.compare) == ("parallel",)


def test_no_student_is_evaluated_where_answers_cannot_be_checked(make_recipe: Make) -> None:
    judge = {"kind": "reward_model", "model": {"name": "judge"}}
    recipe = make_recipe({"scoring.quality": judge})
    assert students(recipe.compare, recipe.evaluate, recipe.scoring) == ()
