"""A finished run as the viewer's addresses show it, against its tables."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from persyn_ray.method.learnability import STRETCH
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout

Get = Callable[..., Any]
Finished = tuple[Recipe, RunLayout]


def rows_in(run: RunLayout, folder: Any, *splits: str) -> list[dict[str, Any]]:
    splits = splits or ("parallel", "routed", "heldout")
    shards = [one for one in shards_of(run, *splits) if folder.exists(one)]
    return [row for shard in shards for row in folder.read_table(shard).to_pylist()]


def test_a_run_at_a_glance(seen: Get, finished: Finished) -> None:
    found = seen("/api/run")
    assert [one["name"] for one in found["teachers"]] == ["a", "b", "c"]
    assert found["num_prompts"] == 24
    assert found["tasks"] == ["task-0", "task-1", "task-2", "task-3"]
    assert found["splits"] == ["parallel", "routed", "heldout"]
    assert found["methods"] == [PERSYN, *finished[0].compare.methods]
    assert found["router"]["label"] == "fitted router"
    assert {"rewards", "logits", "assignment"} <= {
        one for one, is_so in found["has"].items() if is_so
    }
    assert sum(one["share"] for one in found["teachers"]) == pytest.approx(1)


def test_the_list_has_every_prompt_once_in_the_order_of_the_run(
    seen: Get, finished: Finished
) -> None:
    _, run = finished
    prompts = rows_in(run, run.prompts)
    pages = [seen("/api/prompts", offset=offset, limit=7) for offset in (0, 7, 14, 21, 28)]
    assert [len(page["rows"]) for page in pages] == [7, 7, 7, 3, 0]
    assert {page["total"] for page in pages} == {24}
    shown = [row for page in pages for row in page["rows"]]
    assert [row["prompt_id"] for row in shown] == [row["prompt_id"] for row in prompts]
    assert [row["text"] for row in shown] == [row["messages"][-1]["content"] for row in prompts]
    assert [row["split"] for row in shown] == [row["split"] for row in prompts]


def test_rows_show_what_the_tables_hold(seen: Get, finished: Finished) -> None:
    _, run = finished
    shown = {row["prompt_id"]: row for row in seen("/api/prompts", sort="prompt")["rows"]}
    for row in rows_in(run, run.assignment(PERSYN)):
        assert shown[row["prompt_id"]]["teacher"] == row["teacher"]
        assert shown[row["prompt_id"]]["margin"] == pytest.approx(row["margin"], rel=1e-5)
    for row in rows_in(run, run.rewards):
        known = [value for value in row["rewards"] if value is not None]
        found = shown[row["prompt_id"]]
        assert found["best_reward"] == pytest.approx(max(known), abs=1e-6)
        assert found["spread"] == pytest.approx(max(known) - min(known), abs=1e-6)
        assert ("all_wrong" in found["flags"]) == (max(row["quality"]) == 0)
    assert {row["prompt_id"] for row in rows_in(run, run.rewards)} == {
        name for name, row in shown.items() if row["best_reward"] is not None
    }


def test_one_prompt_has_all_teachers_with_texts_and_signals(seen: Get, finished: Finished) -> None:
    recipe, run = finished
    row = rows_in(run, run.rewards, "parallel")[3]
    found = seen(f"/api/prompts/{row['prompt_id']}")
    assert found["split"] == "parallel"
    assert found["messages"][-1]["role"] == "user"
    for place, one in enumerate(found["responses"]):
        assert one["teacher"] == recipe.pool.names[place]
        assert one["reward"] == pytest.approx(row["rewards"][place])
        assert one["quality"] == pytest.approx(row["quality"][place])
        assert one["quality_outcome"] in ("correct", "wrong")
        assert one["learnability"] == pytest.approx(row["learnability"][place], rel=1e-5)
        assert one["text"].splitlines()[-1].startswith("####")
        assert one["is_best"] == (row["rewards"][place] == max(row["rewards"]))
    assert sum(one["probability"] for one in found["responses"]) == pytest.approx(1)
    (assigned,) = [one["teacher"] for one in found["responses"] if one["is_assigned"]]
    assert found["methods"][PERSYN] == assigned
    assert assigned in found["why"]
    assert "logits ahead" in found["why"]


def test_the_least_likely_stretch_is_that_of_the_scores(seen: Get, finished: Finished) -> None:
    recipe, run = finished
    num_marked = 0
    for row in rows_in(run, run.prompts, "parallel"):
        shown = seen(f"/api/prompts/{row['prompt_id']}")["responses"]
        for one, teacher in zip(shown, recipe.teachers, strict=True):
            tables = [table for _, table in run.learnability(teacher).tables()]
            (scored,) = [
                score
                for table in tables
                for score in table.to_pylist()
                if score["prompt_id"] == row["prompt_id"]
            ]
            assert one["lowest_window"] == pytest.approx(scored["lowest_window"])
            span = [scored["lowest_start"], scored["lowest_end"]]
            assert 0 < span[1] - span[0] <= STRETCH  # a token of this student is a byte
            is_whole = span == [0, len(one["text"])]
            assert one["lowest_span"] == (None if is_whole else span)
            num_marked += not is_whole
    assert num_marked > 0


def test_every_compared_method_says_whom_it_would_take(seen: Get, finished: Finished) -> None:
    recipe, run = finished
    (row, *_) = rows_in(run, run.rewards, "parallel")
    methods = seen(f"/api/prompts/{row['prompt_id']}")["methods"]
    assert list(methods) == [PERSYN, *recipe.compare.methods]
    best = [
        n
        for n, v in zip(recipe.pool.names, row["rewards"], strict=True)
        if v == max(row["rewards"])
    ]
    assert methods["oracle"] in best
    assert methods["random"] in recipe.pool.names
    routed = rows_in(run, run.prompts, "routed")[0]["prompt_id"]
    assert seen(f"/api/prompts/{routed}")["methods"]["oracle"] is None, "nobody knows its reward"


def test_neighbours_follow_the_filtered_and_sorted_list(seen: Get) -> None:
    query = {"split": "parallel", "sort": "-margin"}
    ids = [row["prompt_id"] for row in seen("/api/prompts", **query)["rows"]]
    assert len(ids) == 12
    walked, here = [], ids[0]
    assert seen(f"/api/prompts/{here}", **query)["previous_id"] is None
    while here is not None:
        walked.append(here)
        here = seen(f"/api/prompts/{here}", **query)["next_id"]
    assert walked == ids
    assert seen(f"/api/prompts/{ids[-1]}", **query)["previous_id"] == ids[-2]


def test_teachers_by_their_means_and_points(seen: Get, finished: Finished) -> None:
    recipe, run = finished
    found = seen("/api/teachers")
    rewards = rows_in(run, run.rewards)
    for place, one in enumerate(found["teachers"]):
        values = [row["quality"][place] for row in rewards]
        assert one["quality"] == pytest.approx(sum(values) / len(values))
        assert one["num_responses"] >= 16
        assert one["length"]["p10"] <= one["length"]["p50"] <= one["length"]["max"]
    matrix = found["agreement"]["matrix"]
    same = [row["quality"][0] == row["quality"][1] for row in rewards]
    assert matrix[0][1] == matrix[1][0] == pytest.approx(sum(same) / len(same))
    assert matrix[2][2] == 1
    ids = {row["prompt_id"] for row in rewards}
    assert {point["prompt_id"] for point in found["points"]} == ids
    assert {point["teacher"] for point in found["points"]} == set(recipe.pool.names)


def test_now_says_that_it_is_finished(seen: Get) -> None:
    found = seen("/api/now")
    assert found["state"] == "finished"
    assert [step["state"] for step in found["steps"]] == ["done"] * 9
    assert found["steps"][0]["name"] == "prompts"
    assert found["steps"][1]["rows"] == 48  # 16 prompts, three teachers
    assert all(one["answered"] >= 16 and one["failed"] == 0 for one in found["teachers"])
    assert {one["at_work"] for one in found["teachers"]} == {0}
    assert found["cost"] is None, "nobody has a price"
    assert json.dumps(found, allow_nan=False)


def test_a_run_without_losses_has_no_dead_letters(seen: Get) -> None:
    assert seen("/api/dead-letters") == {"total": 0, "reasons": []}
