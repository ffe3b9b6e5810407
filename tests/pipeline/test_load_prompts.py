"""Step prompts: sizes of the splits, what is counted, what is buried."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.pipeline.load_prompts import needs_reference, write_prompts
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import JudgeConfig
from persyn_ray.storage.layout import run_of

Make = Callable[..., Recipe]
JUDGE = {"scoring.quality": {"kind": "reward_model", "model": {"name": "random:reward"}}}


def jsonl(path: Path, *rows: Any) -> str:
    path.write_text(
        "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    )
    return str(path)


def sums(*numbers: int) -> list[dict[str, Any]]:
    return [{"prompt": f"{n} + 1?", "answer": n + 1, "task": "add"} for n in numbers]


def texts(recipe: Recipe, split: str | None = None) -> list[str]:
    rows = [row for _, table in run_of(recipe).prompts.tables() for row in table.to_pylist()]
    return [row["messages"][-1]["content"] for row in rows if split in (None, row["split"])]


def test_prompts_are_laid_down_in_shards_of_one_split_each(make_recipe: Make) -> None:
    recipe = make_recipe()
    run = run_of(recipe)
    counts = write_prompts(recipe, run)
    assert counts.splits == {"parallel": 12, "heldout": 4, "routed": 8}
    assert (counts.rows, counts.errors, counts.duplicates) == (24, 0, 0)
    named = [shard for shards in counts.shards.values() for shard in shards]
    assert run.prompts.names() == named
    for split, shards in counts.shards.items():
        for shard in shards:
            table = run.prompts.read_table(shard)
            assert set(table["split"].to_pylist()) == {split}
            assert table.num_rows <= 5
    assert len(set(texts(recipe))) == 24


def test_duplicates_are_counted_and_bad_rows_buried(make_recipe: Make, tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "mixed.jsonl",
        *sums(1, 2, 3, 2, 2),
        {"prompt": "", "answer": 1, "task": "add"},
        "{broken\n",
        {"prompt": "No answer?", "task": "add"},
    )
    recipe = make_recipe(
        {"prompts.path": path, "prompts.num_parallel": 2, "prompts.num_heldout": 0}
    )
    run = run_of(recipe)
    counts = write_prompts(recipe, run)
    assert (counts.rows, counts.duplicates, counts.errors) == (3, 2, 3)
    letters = [row for _, t in run.dead_letters("prompts").tables() for row in t.to_pylist()]
    assert sorted(row["reason"] for row in letters) == ["no_reference", "no_text", "unreadable_row"]
    assert all("mixed.jsonl, row" in row["detail"] for row in letters)


def test_an_empty_prompt_set_is_refused(make_recipe: Make, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "empty.jsonl", {"prompt": " ", "answer": 1, "task": "add"})
    recipe = make_recipe({"prompts.path": path})
    with pytest.raises(DataError, match="No prompt in"):
        write_prompts(recipe, run_of(recipe))


def test_a_missing_file_is_refused_with_its_setting(make_recipe: Make, tmp_path: Path) -> None:
    recipe = make_recipe({"prompts.path": str(tmp_path / "absent.jsonl")})
    with pytest.raises(ConfigError, match=r"prompts\.path"):
        write_prompts(recipe, run_of(recipe))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts.num_parallel": 25}, "num_parallel is 25, but of 24 prompts only 24"),
        ({"prompts.num_heldout": 13}, "num_heldout is 13, but of 24 prompts only 12"),
    ],
)
def test_a_split_larger_than_the_prompt_set_is_refused_with_the_numbers(
    make_recipe: Make, changes: dict[str, Any], message: str
) -> None:
    recipe = make_recipe(changes)
    with pytest.raises(ConfigError, match=message):
        write_prompts(recipe, run_of(recipe))


def test_too_few_prompts_says_what_became_of_the_others(make_recipe: Make, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "few.jsonl", *sums(1, 2, 2), *["{broken\n"] * 9)
    says = (
        r"of 2 prompts only 2 .*9 rows were refused \(the first: few\.jsonl, row 4: .*1 duplicates"
    )
    for changes in ({}, {"evaluate.path": jsonl(tmp_path / "apart.jsonl", *sums(7))}):
        recipe = make_recipe({"prompts.path": path} | changes)
        with pytest.raises(ConfigError, match=says):
            write_prompts(recipe, run_of(recipe))


def test_the_order_of_rows_changes_no_split(make_recipe: Make, tmp_path: Path) -> None:
    rows = sums(*range(30))
    splits = []
    for number, some in enumerate((rows, rows[::-1])):
        path = jsonl(tmp_path / f"{number}.jsonl", *some)
        recipe = make_recipe({"prompts.path": path, "run": str(tmp_path / f"run-{number}")})
        write_prompts(recipe, run_of(recipe))
        splits.append({name: texts(recipe, name) for name in ("parallel", "heldout", "routed")})
    assert splits[0] == splits[1]


def test_a_prompt_in_both_files_is_held_out_and_the_parallel_set_keeps_its_size(
    make_recipe: Make, tmp_path: Path
) -> None:
    recipe = make_recipe(
        {
            "prompts.path": jsonl(tmp_path / "ours.jsonl", *sums(*range(20))),
            "evaluate.path": jsonl(tmp_path / "apart.jsonl", *sums(*range(12, 24))),
            "prompts.num_parallel": 10,
            "prompts.num_heldout": 0,
        }
    )
    counts = write_prompts(recipe, run_of(recipe))
    assert counts.splits == {"parallel": 10, "heldout": 12, "routed": 2}
    assert counts.duplicates == 8
    assert sorted(texts(recipe, "heldout")) == sorted(row["prompt"] for row in sums(*range(12, 24)))
    assert len(set(texts(recipe))) == counts.rows == 24


def test_held_out_problems_are_never_trained_on_however_they_are_written(
    make_recipe: Make, tmp_path: Path
) -> None:
    apart = [{"prompt": f"Sum of {n} and caf\u00e9?", "answer": n, "task": "add"} for n in range(6)]
    ways = (" {}", "{}\n", "\ufeff{}\u200b", "{}\u3000\r\n", "\u00a0{}")
    ours = [row | {"prompt": way.format(row["prompt"])} for way in ways for row in apart]
    ours += [row | {"prompt": unicodedata.normalize("NFD", row["prompt"])} for row in apart]
    for template in ("{prompt}", "{prompt} Be brief.", "Q: {prompt}\nA:"):
        recipe = make_recipe(
            {
                "run": str(tmp_path / template.replace("{prompt}", "").strip()[:1] / "run"),
                "prompts.path": jsonl(tmp_path / "ours.jsonl", *sums(*range(12)), *ours),
                "evaluate.path": jsonl(tmp_path / "apart.jsonl", *apart),
                "prompts.num_heldout": 0,
                "prompts.template": template,
            }
        )
        counts = write_prompts(recipe, run_of(recipe))
        assert counts.splits == {"parallel": 12, "heldout": 6, "routed": 0}
        assert counts.duplicates == 36
        asked = {template.replace("{prompt}", row["prompt"]) for row in apart}
        assert set(texts(recipe, "heldout")) == asked


def test_holding_out_every_prompt_is_refused(make_recipe: Make, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "same.jsonl", *sums(*range(20)))
    recipe = make_recipe({"prompts.path": path, "evaluate.path": path})
    with pytest.raises(ConfigError, match="num_parallel is 12, but of 0 prompts"):
        write_prompts(recipe, run_of(recipe))


def test_without_an_exact_check_no_prompt_needs_an_answer(
    make_recipe: Make, tmp_path: Path
) -> None:
    rows = [{"prompt": f"Say {number}."} for number in range(20)]
    apart = [{"prompt": f"Tell {number}."} for number in range(5)]
    changes = {
        "prompts.path": jsonl(tmp_path / "ours.jsonl", *rows),
        "evaluate.path": jsonl(tmp_path / "apart.jsonl", *apart),
        "prompts.reference_column": None,
        "prompts.task_column": None,
    }
    recipe = make_recipe(JUDGE | changes)
    assert write_prompts(recipe, run_of(recipe)).splits["heldout"] == 5


def test_only_held_out_problems_need_answers_when_a_reward_model_scores(
    make_recipe: Make, tmp_path: Path
) -> None:
    unanswered = [{"prompt": f"Say {n}.", "answer": None, "task": "say"} for n in range(20)]
    recipe = make_recipe(
        JUDGE
        | {
            "prompts.path": jsonl(tmp_path / "ours.jsonl", *unanswered),
            "evaluate.path": jsonl(tmp_path / "apart.jsonl", *sums(1, 2), unanswered[0]),
            "evaluate.check": {"kind": "exact_match"},
        }
    )
    counts = write_prompts(recipe, run_of(recipe))
    assert counts.splits == {"parallel": 12, "heldout": 2, "routed": 8}
    assert counts.errors == 1


EXACT = {"scoring.quality": {"kind": "exact_answer"}}
NO_COMMA = '[{"id": "punctuation:no_comma"}]'


def answered(*references: str) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Problem {number}?", "answer": reference, "task": "solve"}
        for number, reference in enumerate(references)
    ]


def letters(recipe: Recipe) -> list[dict[str, Any]]:
    tables = run_of(recipe).dead_letters("prompts").tables()
    return [row for _, table in tables for row in table.to_pylist()]


def without_splits(path: str, num_parallel: int = 2) -> dict[str, Any]:
    return {
        "prompts.path": path,
        "prompts.num_parallel": num_parallel,
        "prompts.num_heldout": 0,
    }


def test_references_that_no_check_can_read_are_buried_with_their_prompt(
    make_recipe: Make, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "some.jsonl", *answered("72", "\\frac{1}{2}", "???", "x+1"))
    recipe = make_recipe(EXACT | without_splits(path))
    counts = write_prompts(recipe, run_of(recipe))
    assert (counts.rows, counts.errors) == (3, 1)
    (letter,) = letters(recipe)
    assert letter["reason"] == "unreadable_reference"
    assert "???" in letter["detail"]
    assert letter["prompt_id"] is not None
    assert "Problem 2?" not in texts(recipe)


def test_tests_that_are_no_python_are_buried_with_their_prompt(
    make_recipe: Make, tmp_path: Path
) -> None:
    tests = ["assert f(1) == 2", "assert f(", '["assert f(1) == 2"]']
    path = jsonl(tmp_path / "some.jsonl", *answered(*tests))
    recipe = make_recipe({"scoring.quality": {"kind": "unit_tests"}} | without_splits(path))
    assert write_prompts(recipe, run_of(recipe)).errors == 1
    (letter,) = letters(recipe)
    assert letter["reason"] == "unreadable_reference"
    assert "no Python" in letter["detail"]


def test_plain_numbers_are_references_that_start_no_process(
    make_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persyn_ray.checks.verifier.sys.executable", "/no/such/python")
    recipe = make_recipe(EXACT)
    assert write_prompts(recipe, run_of(recipe)).errors == 0


def test_when_no_reference_can_be_read_the_first_prompts_are_named(
    make_recipe: Make, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "none.jsonl", *answered("???", "\\frac{"))
    recipe = make_recipe(EXACT | without_splits(path))
    with pytest.raises(DataError, match=r"None of 2 references.*Set prompts\.reference_column"):
        write_prompts(recipe, run_of(recipe))


def test_a_part_of_several_and_the_check_of_held_out_problems_read_references_too(
    make_recipe: Make, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "some.jsonl", *answered("1", "2", "???"))
    parts = [
        {"name": "right", "quality": {"kind": "exact_answer"}},
        {"name": "good", "quality": {"kind": "reward_model", "model": {"name": "random:reward"}}},
    ]
    several = {"scoring.quality": {"kind": "several", "parts": parts}}
    recipe = make_recipe(several | without_splits(path))
    assert write_prompts(recipe, run_of(recipe)).errors == 1
    changes = JUDGE | without_splits(path) | {"evaluate.check": {"kind": "exact_answer"}}
    unused = make_recipe(changes | {"run": str(tmp_path / "unused")})
    assert write_prompts(unused, run_of(unused)).errors == 0
    heldout = make_recipe(
        changes
        | {
            "prompts.num_parallel": 1,
            "prompts.num_heldout": 1,
            "run": str(tmp_path / "heldout"),
        }
    )
    assert write_prompts(heldout, run_of(heldout)).errors == 1


def test_instructions_that_are_none_are_buried_with_the_reason(
    make_recipe: Make, tmp_path: Path
) -> None:
    bad = '[{"id": "punctuation:no_such"}]'
    path = jsonl(tmp_path / "told.jsonl", *answered(NO_COMMA, NO_COMMA, bad))
    recipe = make_recipe({"scoring.quality": {"kind": "instructions"}} | without_splits(path))
    assert write_prompts(recipe, run_of(recipe)).rows == 2
    (letter,) = letters(recipe)
    assert "'punctuation:no_such' is no instruction" in letter["detail"]


@pytest.mark.parametrize(("rubric_ending", "is_needed"), [("", False), ("{reference}", True)])
def test_a_judge_needs_references_only_where_its_rubric_shows_them(
    rubric_ending: str, is_needed: bool
) -> None:
    judge = JudgeConfig.model_validate(
        {
            "kind": "judge",
            "engine": {"kind": "openai", "model": "judge", "base_url": "http://localhost:1/v1"},
            "rubric": "{prompt} {response} " + rubric_ending,
        }
    )
    assert needs_reference(judge) == is_needed


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"question": "1?", "response": "2"}], r"no column \['rm'\]"),
        ([{"question": "1?", "response": "2", "rm": "good"}], "holds no score"),
        (["{broken\n"], "holds no score"),
    ],
)
def test_a_table_of_scores_is_read_before_anybody_responds(
    make_recipe: Make, tmp_path: Path, rows: list[Any], says: str
) -> None:
    table = jsonl(tmp_path / "scores.jsonl", *rows)
    how = {"kind": "recorded", "path": table, "score_column": "rm"}
    recipe = make_recipe({"scoring.quality": how})
    with pytest.raises((ConfigError, DataError), match=rf"scores\.jsonl.*{says}"):
        write_prompts(recipe, run_of(recipe))
