"""Looking into a run: one prompt, and the state of all steps."""

import shutil
from pathlib import Path

import pytest

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.pipeline.results.explain import explain, open_run, state
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout

Finished = tuple[Recipe, RunLayout]


def test_a_prompt_is_found_by_its_beginning_with_all_that_is_known(finished: Finished) -> None:
    recipe, run = finished
    shard = shards_of(run, "parallel")[1]
    prompt_id = run.prompts.read_table(shard)["prompt_id"][0].as_py()
    found = explain(recipe, run, prompt_id[:12])
    assert (found["prompt_id"], found["shard"], found["split"]) == (prompt_id, shard, "parallel")
    rewards = run.rewards.read_table(shard).to_pylist()[0]
    for place, name in enumerate(recipe.pool):
        facts = found["teachers"][name]
        assert facts["rewards"] == rewards["rewards"][place]
        assert facts["candidates"] is True
        assert facts["response"].splitlines()[-1].startswith("####")
    assigned = run.assignment(PERSYN).read_table(shard).to_pylist()
    (row,) = [row for row in assigned if row["prompt_id"] == prompt_id]
    assert found["assigned"] == {PERSYN: row["teacher"]}


def test_a_routed_prompt_shows_what_its_teacher_wrote_and_no_reward(finished: Finished) -> None:
    recipe, run = finished
    prompt_id = run.prompts.read_table(shards_of(run, "routed")[0])["prompt_id"][0].as_py()
    found = explain(recipe, run, prompt_id)
    chosen = found["assigned"][PERSYN]
    assert "response" in found["teachers"][chosen]
    assert all("rewards" not in facts for facts in found["teachers"].values())
    assert sum("response" in facts for facts in found["teachers"].values()) == 1


def test_a_beginning_of_several_ids_or_of_none_is_refused(finished: Finished) -> None:
    recipe, run = finished
    with pytest.raises(DataError, match="24 prompts of this run begin with ''"):
        explain(recipe, run, "")
    with pytest.raises(DataError, match="No prompts of this run begin with 'xyz'"):
        explain(recipe, run, "xyz")


def test_a_run_is_opened_by_its_folder_wherever_it_was_moved(
    finished: Finished, tmp_path: Path
) -> None:
    recipe, run = finished
    opened, _ = open_run(run.root.address)
    assert opened == recipe
    for name in ("recipe.json", "records"):
        source = run.root.local_path / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    moved, _ = open_run(str(tmp_path))
    assert moved.run == str(tmp_path)
    assert moved.teachers == recipe.teachers


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        open_run(str(tmp_path))


def test_the_state_names_every_step(finished: Finished, tmp_path: Path) -> None:
    _, run = finished
    names = [name for name, record in state(run) if record is not None]
    assert (names[0], names[-1], len(names)) == ("prompts", "evaluate", 9)
