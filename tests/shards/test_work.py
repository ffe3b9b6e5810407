"""Units of work: done once, done again without effect, and gone on with after a stop."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.errors import StepError
from persyn_ray.method.preferences import count_preferences
from persyn_ray.pipeline.assign.assignments import write_assignments
from persyn_ray.pipeline.assign.constrained import limit_settings
from persyn_ray.pipeline.assign.methods import response_settings, settings_of
from persyn_ray.pipeline.dead_letters import failures
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import ExactMatchConfig
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.evaluate import EvaluateShard
from persyn_ray.shards.part_files import existing, parts_in
from persyn_ray.shards.route import RouteShard
from persyn_ray.shards.score import Score, check_of, checks_and_models
from persyn_ray.shards.tables import load_rewards, shards_of
from persyn_ray.shards.units import Unit, Work, units_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import BEFORE, PERSYN, RunLayout, parts_of, run_of
from persyn_ray.storage.schemas import LEARNABILITY, RESPONSES, filed

from ..conftest import rewards_of
from ..engines.openai.fault_server import Call, FaultServer, Reply, answer, failure

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


def do(work: Work, recipe: Recipe, *splits: str) -> list[int]:
    """Carry out all units of some splits; the rows each made."""
    units = units_of(shards_of(run_of(recipe), *splits))
    return [work(unit).rows for unit in units]


def state(folder: Folder) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with what changes whenever it is written anew."""
    files = [path for path in folder.local_path.rglob("*") if path.is_file()]
    return {str(f): (f.stat().st_ino, f.stat().st_mtime_ns) for f in files}


def rows(folder: Folder) -> list[dict[str, Any]]:
    return [row for _, table in folder.tables() for row in table.to_pylist()]


def prompt_ids(run: RunLayout, *splits: str) -> list[str]:
    tables = [run.prompts.read_table(shard) for shard in shards_of(run, *splits)]
    return [name for table in tables for name in table["prompt_id"].to_pylist()]


def test_collecting_twice_writes_nothing_the_second_time(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="prompts")
    assert do(Collect(recipe), recipe, "parallel") == [15, 15, 6]
    tables = run.root / "tables"
    before = state(tables)
    assert do(Collect(recipe), recipe, "parallel") == [0, 0, 0]
    assert state(tables) == before
    for teacher in recipe.teachers:
        answered = [row["prompt_id"] for row in rows(run.responses(teacher))]
        assert sorted(answered) == sorted(prompt_ids(run, "parallel"))


def test_a_new_teacher_makes_no_other_answer_again(
    make_recipe: Make, carry_out: CarryOut, tmp_path: Path
) -> None:
    recipe = make_recipe()
    run = carry_out(recipe, until="collect")
    before = state(run.root / "tables" / "responses")
    path = tmp_path / "answers.jsonl"
    path.write_text('{"question": "x", "teacher": "z", "response": "y"}\n')
    new = {"name": "z", "engine": {"kind": "recorded", "path": str(path)}}
    others = [{"name": name, "engine": {"kind": "scripted"}} for name in ("a", "b", "c")]
    wider = make_recipe({"teachers": [new, *others]})
    assert sum(do(Collect(wider), wider, "parallel")) == 12
    after = state(run.root / "tables" / "responses")
    assert {name: after[name] for name in before} == before


def test_what_an_interrupted_step_left_is_kept_and_only_the_rest_is_made(
    make_recipe: Make, carry_out: CarryOut, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    engine = {"kind": "recorded", "path": str(path), "prompt_column": "prompt"}
    recipe = make_recipe({"teachers": [{"name": "a", "engine": engine}]})
    run = carry_out(recipe, until="prompts")

    def record(text: str) -> None:
        lines = (tmp_path / "prompts.jsonl").read_text().splitlines()
        questions = [json.loads(line)["prompt"] for line in lines]
        answers = [{"prompt": q, "teacher": "a", "response": text} for q in questions]
        path.write_text("".join(json.dumps(answer) + "\n" for answer in answers))

    record("first")
    do(Collect(recipe), recipe, "parallel")
    folder, shard = run.responses(recipe.teachers[0]), shards_of(run, "parallel")[0]
    (part,) = (name for name in folder.names() if name.startswith("shard-000000."))
    folder.write_table(part, folder.read_table(part).slice(0, 2))
    record("second")
    assert do(Collect(recipe), recipe, "parallel") == [3, 0, 0]
    texts = existing(folder, shard, RESPONSES)["response"].to_pylist()
    assert texts == ["first", "first", "second", "second", "second"]


def test_a_teacher_that_fails_has_dead_letters_no_reward_and_no_pair(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    scripted = [{"name": name, "engine": {"kind": "scripted"}} for name in ("a", "b")]
    failing = {"name": "c", "engine": {"kind": "scripted", "fail_on": "No."}}
    recipe = make_recipe({"teachers": [*scripted, failing], "student.name": random_llama})
    run = carry_out(recipe, until="rewards")
    letters = failures(response_settings(recipe), run, "collect").to_pylist()
    assert {(row["teacher"], row["reason"]) for row in letters} == {("c", "error")}
    assert sorted(row["prompt_id"] for row in letters) == sorted(prompt_ids(run, "parallel"))
    rewards = load_rewards(run, shards_of(run, "parallel"), 3).rewards_PM
    assert count_preferences(rewards).num_null_teachers == 12
    assert count_preferences(rewards) == count_preferences(rewards[:, [0, 1, 2]])
    assert count_preferences(rewards).num_pairs == count_preferences(rewards[:, :2]).num_pairs


def test_dead_letters_of_earlier_calls_stay_when_a_teacher_is_added(
    make_recipe: Make, carry_out: CarryOut
) -> None:
    def failing(*names: str) -> list[dict[str, Any]]:
        engine = {"kind": "scripted", "fail_on": "No."}
        return [{"name": name, "engine": engine} for name in names]

    run = carry_out(make_recipe({"teachers": failing("a")}), until="collect")
    recipe = make_recipe({"teachers": failing("a", "b")})
    carry_out(recipe, until="collect")
    found = failures(response_settings(recipe), run, "collect").to_pylist()
    letters = [(row["teacher"], row["prompt_id"]) for row in found]
    ids = prompt_ids(run, "parallel")
    assert sorted(letters) == sorted((name, prompt_id) for name in "ab" for prompt_id in ids)


def test_scoring_twice_writes_nothing_and_another_alpha_scores_nothing(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    recipe = make_recipe({"student.name": random_llama})
    run = carry_out(recipe, until="rewards")
    tables = run.root / "tables"
    before = state(tables / "learnability") | state(tables / "quality")
    assert len(before) == 18  # two signals, three teachers, three shards
    assert do(Score(recipe), recipe, "parallel") == [0, 0, 0]
    mixed = make_recipe({"student.name": random_llama, "scoring.alpha": 0.9})
    assert do(Score(mixed), mixed, "parallel") == [0, 0, 0]
    assert state(tables / "learnability") | state(tables / "quality") == before
    shard = shards_of(run, "parallel")[0]
    assert rewards_of(mixed, shard) != run.rewards.read_table(shard)


def test_only_new_responses_are_scored(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    recipe = make_recipe({"student.name": random_llama})
    run = carry_out(recipe, until="score")
    teacher, shard = recipe.teachers[0], shards_of(run, "parallel")[0]
    folder = run.learnability(teacher)
    (part,) = parts_in(folder, shard)
    whole = folder.read_table(part.name)
    folder.write_table(part.name, whole.slice(0, 4))
    assert do(Score(recipe), recipe, "parallel") == [1, 0, 0]
    again = existing(folder, shard, filed(LEARNABILITY))
    assert again["prompt_id"] == whole["prompt_id"]
    assert again["log_likelihood"].to_pylist() == pytest.approx(whole["log_likelihood"].to_pylist())


def test_the_two_signals_may_be_scored_apart(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    recipe = make_recipe({"student.name": random_llama})
    run = carry_out(recipe, until="collect")
    do(Score(recipe, learnability=False), recipe, "parallel")
    assert not (run.root / "tables" / "learnability").exists()
    together = carry_out(make_recipe({"student.name": random_llama}), until="score")
    (part,) = parts_of(recipe.scoring)
    assert len(rows(together.quality(recipe.teachers[0], part))) == 12
    assert len(rows(together.learnability(recipe.teachers[0]))) == 12


def grading(server: FaultServer, **settings: Any) -> dict[str, Any]:
    """A judge at a loopback endpoint that tries once."""
    address = {"base_url": server.base_url, "api_key_env": None, "attempts": 1}
    engine = {"kind": "openai", "model": "tiny", **address}
    return {"kind": "judge", "engine": engine, "rubric": "{prompt} {response}"} | settings


def several(**parts: dict[str, Any]) -> dict[str, Any]:
    weights = {name: part.pop("weight", 1.0) for name, part in parts.items()}
    named = [{"name": n, "quality": q, "weight": weights[n]} for n, q in parts.items()]
    return {"kind": "several", "parts": named}


def test_another_part_or_weight_scores_no_other_part_anew(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    def recipe_of(**parts: Any) -> Recipe:
        return make_recipe({"student.name": random_llama, "scoring.quality": several(**parts)})

    def matching(**settings: Any) -> dict[str, Any]:
        return {"kind": "exact_match", "marker": "####"} | settings

    def plan(call: Call) -> Reply | None:
        message = {"role": "assistant", "content": f"Score: {len(call.prompt) % 9 + 1}"}
        return answer(call, message=message) if call.method == "POST" else None

    with FaultServer(plan) as server:
        run = carry_out(make_recipe({"student.name": random_llama}), until="score")
        tables = run.root / "tables"
        before = state(tables / "quality") | state(tables / "learnability")
        first = recipe_of(right=matching(), good=grading(server))
        assert sum(do(Score(first), first, "parallel")) == 36
        assert len(server.prompts) == 36
        after = state(tables / "quality") | state(tables / "learnability")
        assert before.items() <= after.items()
        # Another weight, name, order, address or number of attempts asks nothing.
        engine = grading(server)["engine"] | {"attempts": 5}
        same = recipe_of(better=grading(server, weight=3.0, engine=engine), correct=matching())
        assert do(Score(same), same, "parallel") == [0, 0, 0]
        # Another marker checks anew, and asks nothing either.
        marked = recipe_of(right=matching(marker="#"), good=grading(server))
        assert sum(do(Score(marked), marked, "parallel")) == 36
        assert len(server.prompts) == 36
        # Another rubric asks anew, and checks nothing.
        other = recipe_of(right=matching(), good=grading(server, rubric="{prompt}: {response}"))
        checks, models = checks_and_models(other.scoring)
        for shard in shards_of(run, "parallel"):
            assert not Score(other, parts=checks).open_rows(shard)
            assert Score(other, learnability=False, parts=models).open_rows(shard)
            assert Score(other).open_rows(shard)
        assert sum(do(Score(other), other, "parallel")) == 36
        assert len(server.prompts) == 72
        assert not any(Score(other).open_rows(shard) for shard in shards_of(run, "parallel"))


def test_what_a_judge_could_not_be_asked_about_is_asked_again(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    is_down = True

    def plan(call: Call) -> Reply | None:
        if call.method == "GET":
            return None
        if is_down:
            return failure(503)
        message = {"role": "assistant", "content": "Score: 3"}
        return answer(call, message=message)

    with FaultServer(plan) as server:
        settings = {"student.name": random_llama, "scoring.quality": grading(server)}
        recipe = make_recipe(settings)
        run = carry_out(recipe, until="collect")
        (part,) = parts_of(recipe.scoring)
        folders = [run.quality(teacher, part) for teacher in recipe.teachers]
        first, second, third = units_of(shards_of(run, "parallel"))
        with pytest.raises(StepError, match="not be reached for a single one of 15 responses"):
            Score(recipe, learnability=False)(first)
        assert not any(folder.exists() for folder in folders)
        is_down = False
        done = Score(recipe, learnability=False)(first)
        assert (done.rows, done.errors, done.unavailable) == (15, 0, 0)
        is_down = True  # a judge that has answered before may be away for a while
        done = Score(recipe, learnability=False)(second)
        assert (done.rows, done.errors, done.unavailable) == (15, 15, 15)
        assert Score(recipe, learnability=False).open_rows(second["shard"])
        is_down = False
        score = Score(recipe, learnability=False)
        assert [score(unit).rows for unit in (first, second, third)] == [0, 15, 6]
        score.close()
    grades = [row for folder in folders for row in rows(folder)]
    assert len(grades) == 36
    assert {(row["quality"], row["outcome"], row["detail"]) for row in grades} == {
        (3.0, "scored", "Score: 3")
    }


def test_prompts_that_moved_to_another_shard_are_answered_there_and_scored_once(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    carry_out(make_recipe({"student.name": random_llama}), until="score")
    moved = make_recipe({"student.name": random_llama, "prompts.shard_rows": 7})
    run = carry_out(moved, until="rewards")
    rewards = load_rewards(run, shards_of(run, "parallel"), 3)
    assert sorted(rewards.prompt_ids) == sorted(prompt_ids(run, "parallel"))
    signals = rewards.learnability_PM
    assert signals.shape == (12, 3)
    assert not (signals != signals).any()


def test_each_assigned_teacher_answers_its_own_prompts_only(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    recipe = make_recipe({"student.name": random_llama, "router.backbone.name": random_llama})
    run = carry_out(recipe, until="synthesize")
    assigned = {
        (row["prompt_id"], row["teacher"])
        for shard in shards_of(run, "routed")
        for row in run.assignment(PERSYN).read_table(shard).to_pylist()
    }
    answered = [
        (row["prompt_id"], row["teacher"])
        for teacher in recipe.teachers
        for shard in shards_of(run, "routed")
        for row in existing(run.responses(teacher), shard, RESPONSES).to_pylist()
    ]
    assert len(answered) == 8
    assert set(answered) == assigned


def test_routing_and_evaluating_twice_write_nothing(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    recipe = make_recipe({"student.name": random_llama, "router.backbone.name": random_llama})
    run = carry_out(recipe, until="router")
    assert do(RouteShard(recipe), recipe, "parallel", "routed") == [5, 5, 2, 5, 3]
    units = [
        Unit(**unit, student=BEFORE, rows=[0, 1, 2]) for unit in units_of(shards_of(run, "heldout"))
    ]
    assert [EvaluateShard(recipe)(unit).rows for unit in units] == [3]
    before = state(run.root)
    assert sum(do(RouteShard(recipe), recipe, "parallel", "routed")) == 0
    assert [EvaluateShard(recipe)(unit).rows for unit in units] == [0]
    assert state(run.root) == before


def test_a_prompt_too_long_for_a_teacher_goes_to_another_or_is_buried(
    make_recipe: Make, carry_out: CarryOut, random_llama: str, tiny_context: str
) -> None:
    short = {"kind": "transformers", "model": {"name": tiny_context}}
    tiny = {"name": "b", "engine": short, "sampling": {"max_tokens": 2}}
    settings = {"student.name": random_llama, "router.backbone.name": random_llama}
    both = [{"name": "a", "engine": {"kind": "scripted"}}, tiny]
    recipe = make_recipe(settings | {"teachers": both})
    run = carry_out(recipe, until="router")
    do(RouteShard(recipe), recipe, "parallel", "routed")
    counts = write_assignments(
        settings_of(recipe), limit_settings(recipe), run, (PERSYN, "random", "strong")
    )
    assert counts.errors == 0
    for shares in counts.assigned.values():
        assert shares == {"a": 20, "b": 0}

    alone = make_recipe(settings | {"teachers": [tiny], "run": f"{recipe.run}-alone"})
    run = carry_out(alone, until="router")
    do(RouteShard(alone), alone, "parallel", "routed")
    counts = write_assignments(settings_of(alone), limit_settings(alone), run, (PERSYN,))
    assert (counts.errors, counts.assigned) == (20, {PERSYN: {"b": 0}})
    assert {row["reason"] for row in rows(run.dead_letters("route"))} == {"no_candidate"}
    assert len(rows(run.dead_letters("route"))) == 20


def test_answers_are_checked_as_scored_unless_told_otherwise(make_recipe: Make) -> None:
    judge = {"kind": "reward_model", "model": {"name": "judge"}}
    check = {"kind": "exact_match", "marker": "="}
    plain, judged = make_recipe(), make_recipe({"scoring.quality": judge})
    assert check_of(plain.evaluate, plain.scoring) == plain.scoring.quality
    assert check_of(judged.evaluate, judged.scoring) is None
    both = make_recipe({"scoring.quality": judge, "evaluate.check": check})
    assert check_of(both.evaluate, both.scoring) == both.evaluate.check
    two = make_recipe({"scoring.quality": several(a=judge, b=check), "evaluate.check": None})
    assert check_of(two.evaluate, two.scoring) == ExactMatchConfig(kind="exact_match", marker="=")
    none = make_recipe({"scoring.quality": several(a=judge, b=judge)})
    assert check_of(none.evaluate, none.scoring) is None
