"""A comparison of seeds of which some have failed, or none has measured anything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from persyn_ray.pipeline.results.comparison import Seeds, correct_answers, gather_comparison
from persyn_ray.recipe.comparison import CompareConfig
from persyn_ray.report.comparison.page import markdown
from persyn_ray.report.content import to_json
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import BEFORE, PERSYN, RunLayout
from persyn_ray.storage.schemas import EVALUATIONS

STUDENTS = (BEFORE, PERSYN, "random")


def answer(run: RunLayout, student: str, correct: Sequence[float | None]) -> None:
    rows = [
        {
            "prompt_id": f"p{number}",
            "student": student,
            "response": "x",
            "finish_reason": "stop",
            "outcome": "wrong" if value == 0 else "correct" if value else "timeout",
            "correct": value,
        }
        for number, value in enumerate(correct)
    ]
    table = pa.Table.from_pylist(rows, schema=EVALUATIONS)
    run.evaluations(student).write_table("shard-000000.parquet", table)


def report(run: RunLayout, rewards: dict[str, float], **problems: str) -> None:
    references = {
        name: {"reward": {"value": value, "low": value, "high": value, "num": 4}}
        for name, value in rewards.items()
    }
    router = {"heldout_set": "held-out prompts", "references": references, "differences": {}}
    run.root.write_text("report.json", to_json({"router": router, "problems": problems}))


@pytest.fixture
def seeds(tmp_path: Path) -> Seeds:
    """Three finished seeds: PerSyn is right on 3, 2 and 3 of 4 problems, the others on 1."""
    runs = {seed: RunLayout(Folder(str(tmp_path / str(seed)))) for seed in (7, 8, 9)}
    compare = CompareConfig.model_validate({"methods": ["random"], "students": True})
    for number, run in enumerate(runs.values()):
        answer(run, PERSYN, [1, 1, number % 2 == 0, 0])
        for other in (BEFORE, "random"):
            answer(run, other, [1, 0, 0, 0])
        report(run, {PERSYN: 0.6 + number / 100, "random": 0.4})
    return Seeds("test", runs, compare, STUDENTS, 0)


def lose(run: RunLayout, *parts: str) -> None:
    for part in parts:
        if part == "report":
            run.root.remove("report.json")
        else:
            run.evaluations(part).remove()


def test_three_whole_seeds_have_no_problems(seeds: Seeds) -> None:
    content = gather_comparison(seeds, None)
    assert content["problems"] == {}
    assert content["methods"][PERSYN]["by_seed"] == [0.75, 0.5, 0.75]
    assert content["methods"]["random"]["difference"]["value"] == pytest.approx(5 / 12)
    assert [one["seed"] for one in content["seeds"]] == [7, 8, 9]


def test_a_seed_without_a_report_is_named_and_its_answers_still_count(seeds: Seeds) -> None:
    lose(seeds.runs[8], "report")
    content = gather_comparison(seeds, None)
    assert list(content["problems"]) == ["seeds.8"]
    assert "report.json is not there" in content["problems"]["seeds.8"]
    assert content["methods"][PERSYN]["by_seed"] == [0.75, 0.5, 0.75]
    reward = content["methods"][PERSYN]["routed_reward"]
    assert reward["value"] == pytest.approx((0.60 + 0.62) / 2)
    assert "seeds.8" in markdown(content)


def test_a_seed_without_answers_is_unknown_and_not_wrong(seeds: Seeds) -> None:
    lose(seeds.runs[8], *STUDENTS)
    content = gather_comparison(seeds, None)
    assert content["methods"][PERSYN]["by_seed"] == [0.75, None, 0.75]
    assert content["methods"][PERSYN]["mean"]["value"] == pytest.approx(0.75)
    assert content["same_problems"] is False
    correct, asked_SP = correct_answers(list(seeds.runs.values()), STUDENTS)
    assert asked_SP.sum(axis=1).tolist() == [4, 0, 4]
    assert np.isnan(correct[PERSYN][1]).all()


def test_one_method_that_failed_in_one_seed_is_compared_on_the_others(seeds: Seeds) -> None:
    lose(seeds.runs[8], "random")
    content = gather_comparison(seeds, None)
    random = content["methods"]["random"]
    assert random["by_seed"] == [0.25, None, 0.25]
    assert random["difference"]["value"] == pytest.approx(0.5)
    assert content["methods"][BEFORE]["difference"]["value"] == pytest.approx(5 / 12)


def test_where_every_seed_has_failed_there_is_a_page_that_says_so(seeds: Seeds) -> None:
    for run in seeds.runs.values():
        lose(run, "report", *STUDENTS)
    content = gather_comparison(seeds, None)
    assert {"seeds.7", "seeds.8", "seeds.9", "accuracy", "routed_reward"} <= set(
        content["problems"]
    )
    assert content["methods"] == {}
    assert "no answer of PerSyn's students" in markdown(content)


def test_problems_of_a_seed_stand_under_its_name(seeds: Seeds) -> None:
    report(seeds.runs[9], {PERSYN: 0.5, "random": 0.4}, timing="a record is torn")
    assert gather_comparison(seeds, None)["problems"] == {"seeds.9.timing": "a record is torn"}


def test_without_students_routed_rewards_are_compared_seed_by_seed(seeds: Seeds) -> None:
    for run in seeds.runs.values():
        lose(run, *STUDENTS)
    content: dict[str, Any] = gather_comparison(seeds, "no check")
    assert content["problems"] == {}
    assert content["methods"][PERSYN]["by_seed"] == pytest.approx([0.60, 0.61, 0.62])
    assert content["methods"]["random"]["difference"]["value"] == pytest.approx(0.21)
    assert set(content["methods"]) == {PERSYN, "random"}
