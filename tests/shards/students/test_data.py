"""What students learn from: filters, the parallel set, other data sets and overlap, all counted."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.assign.methods import response_settings
from persyn_ray.pipeline.dataset import contaminated_rows, write_examples
from persyn_ray.pipeline.results.run import gather
from persyn_ray.pipeline.runner import drift, planned_steps
from persyn_ray.recipe.data import DatasetConfig
from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.report.html import render
from persyn_ray.shards.response_store import responses_of
from persyn_ray.shards.tables import load_rewards, shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout, run_of

from ...conftest import carry_out_here, changed, planted_rows, recipe_data, write_jsonl

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


@pytest.fixture(scope="module")
def whole(random_llama: str, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The recipe of a run with all responses, routed ones checked as well."""
    folder = tmp_path_factory.mktemp("whole")
    write_jsonl(folder / "prompts.jsonl", planted_rows(24))
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    data = changed(recipe_data(folder), models | {"dataset.drop": ["wrong"]})
    recipe = parse_recipe(data, "test")
    carry_out_here(recipe, until="synthesize")
    return recipe


@pytest.fixture
def routed(whole: Recipe, tmp_path: Path) -> tuple[Recipe, RunLayout]:
    """A copy of that run."""
    shutil.copytree(whole.run, tmp_path / "copy")
    recipe = whole.model_copy(update={"run": str(tmp_path / "copy")})
    return recipe, run_of(recipe)


def examples(
    recipe: Recipe, run: RunLayout, **section: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Counts and examples with another section `dataset`."""
    settings = response_settings(recipe)
    data = replace(settings.data, section=DatasetConfig.model_validate(section))
    counts = write_examples(replace(settings, data=data), run, PERSYN)
    return counts, [row for _, of in run.examples(PERSYN).tables() for row in of.to_pylist()]


def by_split(run: RunLayout, *splits: str) -> dict[str, dict[str, Any]]:
    tables = (run.prompts.read_table(shard) for shard in shards_of(run, *splits))
    return {row["prompt_id"]: row for table in tables for row in table.to_pylist()}


def test_wrong_responses_are_left_out_of_both_splits_and_counted(
    routed: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = routed
    _, everything = examples(recipe, run)
    counts, kept = examples(recipe, run, drop=["wrong"])
    prompts = by_split(run, "parallel", "routed")

    def is_right(row: dict[str, Any]) -> bool:
        said = row["messages"][-1]["content"].rsplit("####", 1)[-1].strip()
        return said == prompts[row["prompt_id"]]["reference"]

    right = [row for row in everything if is_right(row)]
    assert kept == right
    assert counts["wrong"] == len(everything) - len(right) > 0
    assert counts["kept"] + counts["wrong"] == len(prompts) == 20
    assert {prompts[row["prompt_id"]]["split"] for row in kept} == {"parallel", "routed"}


def test_the_best_response_to_the_parallel_set_is_that_with_the_best_reward(
    routed: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = routed
    _, by_router = examples(recipe, run)
    counts, best = examples(recipe, run, parallel="best")
    shards = shards_of(run, "parallel")
    rewards = load_rewards(run, shards, len(recipe.pool))
    reward_of = dict(zip(rewards.prompt_ids, rewards.rewards_PM, strict=True))
    said = {
        (row["prompt_id"], row["teacher"]): row["response"]
        for shard in shards
        for table in responses_of(run, recipe.teachers, shard)
        for row in table.to_pylist()
    }
    parallel = [row for row in best if row["prompt_id"] in reward_of]
    assert len(parallel) == 12
    for row in parallel:
        rewards_M = reward_of[row["prompt_id"]]
        assert rewards_M[recipe.pool.index(row["teacher"])] == rewards_M.max()
        assert row["messages"][-1]["content"] == said[row["prompt_id"], row["teacher"]]
    routed_rows = [row for row in best if row["prompt_id"] not in reward_of]
    assert routed_rows == [row for row in by_router if row["prompt_id"] not in reward_of]
    assert counts["kept"] == 20
    counts, rest = examples(recipe, run, parallel="left_out")
    assert (counts["left_out"], counts["kept"], rest) == (12, 8, routed_rows)


def test_cut_responses_that_are_kept_for_rewards_can_be_left_out_of_training(
    routed: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = routed
    _, everything = examples(recipe, run)
    name = everything[0]["teacher"]
    num = sum(row["teacher"] == name for row in everything)
    folder = run.responses(recipe.teachers[recipe.pool.index(name)])
    for part, table in list(folder.tables()):
        cut = [row | {"finish_reason": "length"} for row in table.to_pylist()]
        folder.write_table(part, type(table).from_pylist(cut, table.schema))
    keeping = recipe.model_copy(
        update={"responses": recipe.responses.model_copy(update={"incomplete": "keep"})}
    )
    counts, _ = examples(keeping, run)
    assert (counts["kept"], counts["kept_truncated"], counts["truncated"]) == (20, num, 0)
    counts, _ = examples(keeping, run, drop=["cut"])
    assert (counts["kept"], counts["kept_truncated"], counts["truncated"]) == (20 - num, 0, num)


def test_other_data_sets_come_by_ratio_without_what_is_known_held_out_or_unreadable(
    routed: tuple[Recipe, RunLayout], tmp_path: Path
) -> None:
    recipe, run = routed
    own = next(iter(by_split(run, "routed").values()))["messages"][-1]["content"]
    held = next(iter(by_split(run, "heldout").values()))["messages"][-1]["content"]
    rows = [{"prompt": f"Tell me of item {n}", "response": f"Item {n}."} for n in range(40)]
    odd = [
        {"prompt": own, "response": "Known."},
        {"prompt": held, "response": "Held out."},
        {"prompt": "Empty", "response": ""},
        {"prompt": "Somebody asks me", "response": f"Solution of this one: {held} It is 5."},
    ]
    path = write_jsonl(tmp_path / "tulu.jsonl", rows + odd)
    counts, found = examples(recipe, run, extra=[{"path": str(path), "ratio": 0.5}])
    extra = [row for row in found if row["teacher"] == "extra:tulu"]
    assert len(extra) == counts["extra"]["tulu"]["kept"] == 10
    assert len(found) == 30
    of = counts["extra"]["tulu"]
    left = (of["duplicates"], of["contaminated"], of["unreadable"], of["not_drawn"])
    assert left == (1, 2, 1, 30)
    assert of["first_unreadable"] == "tulu.jsonl, row 43: column 'response' holds no response"
    listed = contaminated_rows(run, PERSYN).to_pylist()
    assert [(row["teacher"], row["place"]) for row in listed] == [
        ("extra:tulu", "prompt"),
        ("extra:tulu", "response"),
    ]
    assert {row["problem_id"] for row in listed} <= set(by_split(run, "heldout"))
    _, again = examples(recipe, run, extra=[{"path": str(path), "rows": 10}])
    assert again == found  # the same draw
    counts, _ = examples(recipe, run, extra=[{"path": str(path)}])
    assert counts["extra"]["tulu"]["kept"] == 40


def test_own_examples_that_quote_a_problem_are_left_out_and_listed(
    routed: tuple[Recipe, RunLayout],
) -> None:
    recipe, run = routed
    problem = next(iter(by_split(run, "heldout").values()))
    shard = shards_of(run, "routed")[0]
    table = run.prompts.read_table(shard)
    rows = table.to_pylist()
    quoting = {"role": "user", "content": "Once more! " + problem["messages"][-1]["content"]}
    rows[0]["messages"] = [quoting]
    run.prompts.write_table(shard, type(table).from_pylist(rows, table.schema))
    counts, found = examples(recipe, run)
    assert (counts["contaminated"], counts["kept"], len(found)) == (1, 19, 19)
    (listed,) = contaminated_rows(run, PERSYN).to_pylist()
    assert (listed["prompt_id"], listed["problem_id"]) == (
        rows[0]["prompt_id"],
        problem["prompt_id"],
    )
    assert len(listed["words"].split()) >= 8
    counts, found = examples(recipe, run, decontaminate=None)
    assert (counts["contaminated"], len(found), contaminated_rows(run, PERSYN).num_rows) == (
        0,
        20,
        0,
    )


def test_the_report_counts_and_lists_what_was_left_out(
    make_recipe: Make, carry_out: CarryOut, random_llama: str, tmp_path: Path
) -> None:
    held = "In what city do <b>three</b> rivers meet below the old castle on the green hill?"
    write_jsonl(tmp_path / "apart.jsonl", [{"prompt": held, "answer": "Passau", "task": "x"}])
    rows = [{"prompt": held, "response": "Passau"}, {"prompt": "Hi", "response": "Hello"}]
    path = write_jsonl(tmp_path / "chat.jsonl", rows)
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    settings = {
        "dataset.extra": [{"path": str(path)}],
        "evaluate.path": str(tmp_path / "apart.jsonl"),
    }
    recipe = make_recipe(models | settings | {"prompts.num_heldout": 0})
    run = carry_out(recipe, until="synthesize")
    content = gather(recipe, run, {})
    of = content["examples"]["methods"]["persyn"]["extra"]["chat"]
    assert (of["kept"], of["contaminated"]) == (1, 1)
    assert content["examples"]["contaminated"][0]["words"] == held
    page = render(content)
    assert "1 overlap with problems of evaluation" in page
    assert "&lt;b&gt;three&lt;/b&gt; rivers" in page
    assert "<b>three</b>" not in page


def test_a_change_of_what_is_learned_from_does_synthesize_anew(
    make_recipe: Make, routed: tuple[Recipe, RunLayout]
) -> None:
    recipe, run = routed
    other = recipe.model_copy(update={"dataset": DatasetConfig(decontaminate=8)})  # pyright: ignore
    assert set(drift(planned_steps(other, run))) == {"synthesize"}


def test_dropping_wrong_responses_needs_a_check(make_recipe: Make) -> None:
    model = {"kind": "reward_model", "model": {"name": "random:llama"}}
    with pytest.raises(ConfigError, match=r"dataset\.drop wrong needs a check"):
        make_recipe({"dataset.drop": ["wrong"], "scoring.quality": model})
