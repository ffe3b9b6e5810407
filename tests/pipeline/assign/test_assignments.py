"""Assignments: every prompt once, by every method from the same tables, and never by order."""

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest

from persyn_ray.errors import DataError
from persyn_ray.method.metrics import regret
from persyn_ray.pipeline.assign.assignments import (
    asked_by_persyn,
    num_reassigned,
    reassign,
    require_preferences,
    write_assignments,
)
from persyn_ray.pipeline.assign.constrained import limit_settings
from persyn_ray.pipeline.assign.methods import (
    Choices,
    Parallel,
    method_teachers,
    parallel_of,
    response_settings,
    settings_of,
    strong_teacher,
)
from persyn_ray.recipe.comparison import Method
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.tables import Rewards, load_rewards, shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout
from persyn_ray.storage.schemas import RESPONSES, logits_schema, rewards_schema

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
FAILED = ("error", "unavailable")
METHODS = (PERSYN, "random", "best_constant", "strong", "oracle")
ALL = (*METHODS, *sorted(set(get_args(Method)) - set(METHODS)))
IDS = tuple(f"{number:032x}" for number in range(60))
EMBEDDINGS_PD = np.random.default_rng(9).standard_normal((60, 4))


def scripted(*names: str) -> dict[str, Any]:
    return {"teachers": [{"name": name, "engine": {"kind": "scripted"}} for name in names]}


def parallel(values_PM: np.ndarray) -> Parallel:
    losses_M = 1 - np.nanmean(values_PM, axis=0)
    return Parallel(rewards(values_PM), losses_M, EMBEDDINGS_PD)


def rewards(values_PM: np.ndarray, ids: tuple[str, ...] = IDS) -> Rewards:
    return Rewards(ids, values_PM, values_PM, values_PM)


def write_rewards(
    recipe: Recipe, run: RunLayout, value: Callable[[int, int], float | None], *splits: str
) -> None:
    """Rewards of the parallel set: a value for each place of a prompt and of a teacher."""
    schema = rewards_schema(recipe.pool.names)
    for shard in shards_of(run, *(splits or ("parallel",))):
        ids = run.prompts.read_table(shard)["prompt_id"].to_pylist()
        table = [[value(p, m) for m in range(len(recipe.pool))] for p in range(len(ids))]
        columns = {"prompt_id": ids, "learnability": table, "quality": table, "rewards": table}
        run.rewards.write_table(shard, pa.table(columns, schema=schema))


def write_logits(recipe: Recipe, run: RunLayout, seed: int = 0) -> None:
    """Random logits, equal by the dozen; the first teacher can take no prompt at an odd place."""
    names = recipe.pool.names
    rng = np.random.default_rng(seed)
    for shard in shards_of(run, "parallel", "routed"):
        ids = run.prompts.read_table(shard)["prompt_id"].to_pylist()
        rows = [
            {
                "prompt_id": prompt_id,
                "logits": rng.integers(0, 2, len(names)).astype(float).tolist(),
                "candidates": [place % 2 == 0] + [True] * (len(names) - 1),
            }
            for place, prompt_id in enumerate(ids)
        ]
        run.logits.write_table(shard, pa.Table.from_pylist(rows, schema=logits_schema(names)))


def test_nothing_is_fitted_when_all_rewards_are_tied(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    write_rewards(recipe, run, lambda p, m: 0.5)
    with pytest.raises(DataError, match="No preference can be made") as refused:
        require_preferences(run, len(recipe.pool))
    assert "of 12 prompts x 3 teachers, 0 rewards are unknown and 36 pairs are tied" in str(
        refused.value
    )


def test_nothing_is_fitted_when_all_rewards_are_unknown(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    write_rewards(recipe, run, lambda p, m: None)
    with pytest.raises(DataError, match="36 rewards are unknown"):
        require_preferences(run, len(recipe.pool))


def test_one_preference_is_enough_and_one_teacher_needs_none(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    write_rewards(recipe, run, lambda p, m: float(p == m == 0))
    require_preferences(run, len(recipe.pool))
    single = make_recipe(scripted("a") | {"run": f"{recipe.run}-single"})
    run = carry_out(single, until="prompts")
    write_rewards(single, run, lambda p, m: 0.5)
    require_preferences(run, len(single.pool))


@pytest.mark.parametrize("method", ALL)
def test_permuting_the_pool_permutes_the_assignment_ties_included(
    make_recipe: Make, method: str
) -> None:
    names, order = ("a", "b", "c"), [2, 0, 1]
    rng = np.random.default_rng(1)
    logits_PM = rng.integers(0, 2, (60, 3)).astype(float)
    true_PM = rng.integers(0, 2, (60, 3)).astype(float)
    able_PM = rng.random((60, 3)) < 0.8

    def assigned(chosen: list[int]) -> list[str | None]:
        recipe = make_recipe(scripted(*(names[m] for m in chosen)) | {"compare.family": ["a", "b"]})
        teacher_P, _ = method_teachers(
            method,
            settings_of(recipe),
            Choices(
                IDS,
                logits_PM[:, chosen],
                able_PM[:, chosen],
                rewards(true_PM[:, chosen]),
                EMBEDDINGS_PD,
            ),
            parallel(true_PM[:, chosen]),
        )
        return [recipe.pool.names[m] if m >= 0 else None for m in teacher_P]

    assert assigned([0, 1, 2]) == assigned(order)


@pytest.mark.parametrize("method", ALL)
def test_only_candidates_are_chosen_and_prompts_without_any_are_left_out(
    make_recipe: Make, method: str
) -> None:
    rng = np.random.default_rng(2)
    true_PM, able_PM = rng.random((60, 3)), rng.random((60, 3)) < 0.5
    choices = Choices(IDS, rng.random((60, 3)), able_PM, rewards(true_PM), EMBEDDINGS_PD)
    recipe = make_recipe({"compare.family": ["b"]})
    teacher_P, _ = method_teachers(method, settings_of(recipe), choices, parallel(true_PM))
    assert ((teacher_P >= 0) == able_PM.any(axis=1)).all()
    assert able_PM[teacher_P >= 0, teacher_P[teacher_P >= 0]].all()


def test_the_oracle_has_no_regret_and_persyn_with_true_logits_is_the_oracle(
    make_recipe: Make,
) -> None:
    true_PM = np.random.default_rng(3).integers(0, 3, (60, 3)).astype(float)
    able_PM = np.ones_like(true_PM, dtype=bool)
    recipe, known = make_recipe(), parallel(true_PM)
    choices = Choices(IDS, true_PM, able_PM, rewards(true_PM))
    oracle_P, _ = method_teachers("oracle", settings_of(recipe), choices, known)
    persyn_P, margin_P = method_teachers(
        PERSYN, settings_of(recipe), Choices(IDS, true_PM, able_PM), known
    )
    np.testing.assert_array_equal(regret(true_PM, oracle_P), np.zeros(60))
    np.testing.assert_array_equal(persyn_P, oracle_P)
    assert (margin_P >= 0).all()


def test_the_oracle_needs_true_rewards(make_recipe: Make) -> None:
    values_PM = np.zeros((60, 3))
    choices = Choices(IDS, values_PM, values_PM == 0)
    with pytest.raises(DataError, match="every teacher's reward"):
        method_teachers("oracle", settings_of(make_recipe()), choices, parallel(values_PM))


def test_the_strong_teacher_is_the_named_one_or_the_best_by_quality(make_recipe: Make) -> None:
    quality_PM = np.tile([0.1, 0.2, 0.9], (60, 1))
    known = Parallel(Rewards(IDS, quality_PM, quality_PM, quality_PM[:, ::-1]), np.ones(3))
    assert strong_teacher(settings_of(make_recipe()), known) == 2
    assert strong_teacher(settings_of(make_recipe({"compare.strong": "b"})), known) == 1


def test_methods_with_a_rule_of_their_own_follow_it(make_recipe: Make) -> None:
    rng = np.random.default_rng(4)
    quality_PM = rng.integers(0, 2, (60, 3)).astype(float)
    learnability_PM = -rng.random((60, 3))
    signals = Rewards(IDS, learnability_PM, quality_PM, 0.6 * quality_PM + 0.4 * learnability_PM)
    losses_M = np.array([1.0, 2.0, 0.5])
    known = Parallel(signals, losses_M, EMBEDDINGS_PD)
    choices = Choices(IDS, quality_PM, quality_PM >= 0, signals, EMBEDDINGS_PD)
    recipe = make_recipe({"compare.family": ["a", "c"], "compare.car_beta": 4.0})

    def chosen(method: str) -> np.ndarray:
        return method_teachers(method, settings_of(recipe), choices, known)[0]

    means_M = quality_PM.mean(axis=0)
    adjusted = [mean / (1 + 4.0 * loss) for mean, loss in zip(means_M, losses_M, strict=True)]
    assert set(chosen("car")) == {int(np.argmax(adjusted))}
    assert set(chosen("family_strong")) == {0 if means_M[0] > means_M[2] else 2}
    assert set(chosen("mix")) == {int(np.argmax(means_M)), int(np.argmin(means_M))}
    best_P = quality_PM[np.arange(60), chosen("quality_only")]
    np.testing.assert_array_equal(best_P, quality_PM.max(axis=1))
    np.testing.assert_array_equal(chosen("learnability_only"), learnability_PM.argmax(axis=1))


def test_quality_alone_leaves_ties_to_the_seed(make_recipe: Make) -> None:
    true_PM = np.ones((60, 3))
    choices = Choices(IDS, true_PM, true_PM > 0, rewards(true_PM))
    found = [
        method_teachers(
            "quality_only",
            settings_of(make_recipe({"prompts.seed": seed})),
            choices,
            parallel(true_PM),
        )[0]
        for seed in (0, 1)
    ]
    assert (found[0] != found[1]).any()
    assert np.bincount(found[0], minlength=3).min() > 8


@pytest.mark.parametrize("method", ["knn", "linear_probe"])
def test_probes_need_embeddings_and_find_what_they_tell(make_recipe: Make, method: str) -> None:
    best_P = EMBEDDINGS_PD[:, 0] > 0
    true_PM = np.column_stack([best_P, ~best_P, np.full(60, 0.1)]).astype(float)
    choices = Choices(IDS, true_PM, true_PM >= 0, None, EMBEDDINGS_PD)
    teacher_P, _ = method_teachers(method, settings_of(make_recipe()), choices, parallel(true_PM))
    assert (teacher_P == np.where(best_P, 0, 1)).mean() > 0.75
    with pytest.raises(DataError, match="needs embeddings"):
        method_teachers(
            method,
            settings_of(make_recipe()),
            Choices(IDS, true_PM, true_PM >= 0),
            parallel(true_PM),
        )


def test_every_prompt_is_assigned_once_by_every_method_and_counted(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe({"compare.students": True})
    run = carry_out(recipe, until="prompts")
    write_rewards(recipe, run, lambda p, m: float((p + m) % 3))
    write_logits(recipe, run)
    methods = (PERSYN, "random", "best_constant", "strong")
    counts = write_assignments(settings_of(recipe), limit_settings(recipe), run, methods)
    shards = shards_of(run, "parallel", "routed")
    expected = [
        i for shard in shards for i in run.prompts.read_table(shard)["prompt_id"].to_pylist()
    ]
    for method in methods:
        rows = [row for _, table in run.assignment(method).tables() for row in table.to_pylist()]
        assert sorted(row["prompt_id"] for row in rows) == sorted(expected)
        teachers = [row["teacher"] for row in rows]
        assert counts.assigned[method] == {name: teachers.count(name) for name in "abc"}
    assert (counts.rows, counts.errors) == (20, 0)


def test_assigning_again_gives_the_same(make_recipe: Make, carry_out: CarryOut) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    write_rewards(recipe, run, lambda p, m: float(m))
    write_logits(recipe, run)
    counts = write_assignments(settings_of(recipe), limit_settings(recipe), run, (PERSYN, "random"))
    before = dict(run.assignment("random").tables())
    assert (
        write_assignments(settings_of(recipe), limit_settings(recipe), run, (PERSYN, "random"))
        == counts
    )
    assert dict(run.assignment("random").tables()) == before


Ends = Callable[[str, str], str]


def routed(
    make_recipe: Make, carry_out: CarryOut, methods: tuple[str, ...] = METHODS
) -> tuple[Recipe, RunLayout]:
    """Assignments by every method; the rewards of routed prompts are known too."""
    recipe = make_recipe({"responses.incomplete": "next_best"})
    run = carry_out(recipe, until="prompts")
    rng = np.random.default_rng(5)
    values = rng.integers(0, 2, (40, 3)).astype(float)
    write_rewards(recipe, run, lambda p, m: float(values[p, m]), "parallel", "routed")
    write_logits(recipe, run)
    write_assignments(settings_of(recipe), limit_settings(recipe), run, methods)
    return recipe, run


def by_hash(prompt_id: str, teacher: str) -> str:
    """Two of five responses are complete, whoever asks."""
    ends = ("stop", "length", "stop", "loop", "error")
    return ends[int.from_bytes(f"{prompt_id}{teacher}".encode(), "big") % 2_147_483_647 % 5]


def answer(
    recipe: Recipe, run: RunLayout, methods: tuple[str, ...], ends: Ends, everyone: bool = False
) -> None:
    """Assigned teachers (or everyone) answer, and end in the way that `ends` says."""
    for shard in shards_of(run, "parallel", "routed"):
        ids = run.prompts.read_table(shard)["prompt_id"].to_pylist()
        wanted = {
            (row["prompt_id"], row["teacher"])
            for method in methods
            for row in run.assignment(method).read_table(shard).to_pylist()
        }
        for teacher in recipe.teachers:
            name, folder = teacher.name, run.responses(teacher)
            old = existing(folder, shard, RESPONSES)["prompt_id"].to_pylist()
            rows = [
                {
                    "prompt_id": prompt_id,
                    "teacher": name,
                    "response": None if ends(prompt_id, name) in FAILED else "text",
                    "finish_reason": ends(prompt_id, name),
                    "num_prompt_tokens": 1,
                    "num_tokens": 1,
                }
                for prompt_id in ids
                if everyone or (prompt_id, name) in wanted or prompt_id in old
            ]
            folder.write_table(shard, pa.Table.from_pylist(rows, schema=RESPONSES))


def assignments(run: RunLayout, methods: tuple[str, ...] = METHODS) -> dict[str, dict[str, str]]:
    return {
        method: {
            row["prompt_id"]: row["teacher"]
            for _, table in run.assignment(method).tables()
            for row in table.to_pylist()
        }
        for method in methods
    }


def chosen_among(recipe: Recipe, run: RunLayout, ends: Ends) -> dict[str, dict[str, str]]:
    """What each method chooses when only teachers with a complete response are candidates."""
    known = parallel_of(recipe.pool, run)
    found: dict[str, dict[str, str]] = {method: {} for method in METHODS}
    for shard in shards_of(run, "parallel", "routed"):
        logits = run.logits.read_table(shard)
        ids = tuple(logits["prompt_id"].to_pylist())
        able_PM = np.array(logits["candidates"].to_pylist())
        able_PM &= np.array([[ends(i, name) == "stop" for name in recipe.pool] for i in ids])
        for method in METHODS:
            teacher_P, _ = method_teachers(
                method,
                settings_of(recipe),
                Choices(
                    ids,
                    np.array(logits["logits"].to_pylist()),
                    able_PM,
                    load_rewards(run, [shard], 3),
                ),
                known,
            )
            names = {i: recipe.pool.names[m] for i, m in zip(ids, teacher_P, strict=True) if m >= 0}
            found[method] |= names
    return found


def test_prompts_go_to_the_next_best_teachers_until_a_response_is_complete(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe, run = routed(make_recipe, carry_out)
    first, changes = assignments(run), []
    answer(recipe, run, METHODS, by_hash)
    while changed := reassign(response_settings(recipe), run, METHODS):
        changes.append(changed)
        answer(recipe, run, METHODS, by_hash)
    assert 2 <= len(changes) <= len(recipe.pool)
    final = assignments(run)
    assert final == chosen_among(recipe, run, by_hash)
    for method in METHODS:
        moved = [i for i, name in final[method].items() if first[method][i] != name]
        assert 0 < len(moved) == num_reassigned(settings_of(recipe), run, method)
        assert all(by_hash(i, first[method][i]) != "stop" for i in moved)
        assert all(by_hash(i, name) == "stop" for i, name in final[method].items())

    lost = set(first[PERSYN]) - set(final[PERSYN])
    letters = [row for _, t in run.dead_letters("synthesize").tables() for row in t.to_pylist()]
    assert len(lost) == len(letters) > 0
    assert {row["prompt_id"] for row in letters} == lost
    assert {row["reason"] for row in letters} == {"no_complete_response"}
    assert all("truncated" in row["detail"] or "absent" in row["detail"] for row in letters)


def test_the_teacher_does_not_hang_on_the_rounds_it_took(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe, run = routed(make_recipe, carry_out)
    answer(recipe, run, METHODS, by_hash, everyone=True)
    assert reassign(response_settings(recipe), run, METHODS) > 0
    assert assignments(run) == chosen_among(recipe, run, by_hash)
    before = {method: dict(run.assignment(method).tables()) for method in METHODS}
    assert reassign(response_settings(recipe), run, METHODS) == 0
    assert {method: dict(run.assignment(method).tables()) for method in METHODS} == before


def test_complete_responses_change_nothing_and_unreachable_teachers_keep_their_prompts(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe, run = routed(make_recipe, carry_out)
    before = {method: dict(run.assignment(method).tables()) for method in METHODS}
    for ends in (lambda prompt_id, name: "stop", lambda prompt_id, name: "unavailable"):
        answer(recipe, run, METHODS, ends)
        assert reassign(response_settings(recipe), run, METHODS) == 0
    assert {method: dict(run.assignment(method).tables()) for method in METHODS} == before
    assert num_reassigned(settings_of(recipe), run, "random") == 0
    assert not run.dead_letters("synthesize").exists()


def test_a_prompt_that_is_answered_after_all_is_no_dead_letter(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe, run = routed(make_recipe, carry_out)
    first = assignments(run)
    answer(recipe, run, METHODS, lambda prompt_id, name: "length", everyone=True)
    assert reassign(response_settings(recipe), run, METHODS) == 20 * len(METHODS)
    assert sum(t.num_rows for _, t in run.dead_letters("synthesize").tables()) == 20
    answer(recipe, run, METHODS, lambda prompt_id, name: "stop", everyone=True)
    assert reassign(response_settings(recipe), run, METHODS) == 20 * len(METHODS)
    assert assignments(run) == first
    assert run.dead_letters("synthesize").names() == []


def test_who_is_asked_ends_with_the_assigned_teacher(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe, run = routed(make_recipe, carry_out, (PERSYN,))
    answer(recipe, run, (PERSYN,), by_hash)
    while reassign(response_settings(recipe), run, (PERSYN,)):
        answer(recipe, run, (PERSYN,), by_hash)
    for shard in shards_of(run, "parallel", "routed"):
        for teacher in recipe.teachers:
            stored = existing(run.responses(teacher), shard, RESPONSES)
            asked = asked_by_persyn(settings_of(recipe), run, shard)[teacher.name]
            assert sorted(asked) == sorted(stored["prompt_id"].to_pylist())


def test_a_single_teacher_gets_everything(make_recipe: Make, carry_out: CarryOut) -> None:
    recipe = make_recipe(scripted("a"))
    run = carry_out(recipe, until="prompts")
    write_rewards(recipe, run, lambda p, m: 0.0)
    schema = logits_schema(("a",))
    for shard in shards_of(run, "parallel", "routed"):
        ids = run.prompts.read_table(shard)["prompt_id"].to_pylist()
        rows = [{"prompt_id": i, "logits": [0.1], "candidates": [True]} for i in ids]
        run.logits.write_table(shard, pa.Table.from_pylist(rows, schema=schema))
    counts = write_assignments(
        settings_of(recipe),
        limit_settings(recipe),
        run,
        (PERSYN, "random", "best_constant", "strong"),
    )
    assert all(shares == {"a": 20} for shares in counts.assigned.values())
