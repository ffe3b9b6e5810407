"""A quality of one's own: a function of a file in the working folder, here and in processes."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.errors import ConfigError, StepError
from persyn_ray.pipeline.plan.plan import plan_run
from persyn_ray.recipe.own_code import PythonQualityConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.stages.quality import Quality
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, parts_of, run_of

from ..own_code import own_module

Table = Callable[..., pa.Table]
CODE = """
import math, os, time

def length(rows, factor=1):
    return [factor * len(row["response"]) for row in rows]

def by_text(rows):
    return [WORDS[row["response"]]() if row["response"] in WORDS else 1 for row in rows]

def fail():
    raise ValueError("a text of this kind")

WORDS = {
    "none": lambda: None,
    "nan": lambda: math.nan,
    "text": lambda: "good",
    "raise": fail,
    "hang": lambda: time.sleep(60),
    "die": lambda: os._exit(3),
    "pid": os.getpid,
}

def whole_row(rows):
    names = ["messages", "prompt_id", "reference", "response", "task", "teacher"]
    return [sorted(row) == names and row["messages"][-1]["content"] == "2+2?"
            and row["reference"] == "4" for row in rows]

def too_few(rows):
    return [1.0]

def never(rows):
    raise RuntimeError("no licence")
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The functions in a module of a name of its own."""
    yield from own_module(CODE, tmp_path, monkeypatch)


@pytest.fixture
def scored(module: str, prompts: Table, responses: Table) -> Callable[..., list[dict[str, Any]]]:
    """Rows of QUALITY of responses to one prompt, by a function of the module."""

    def score(function: str, texts: list[str | None], **settings: Any) -> list[dict[str, Any]]:
        how = {"kind": "python", "function": f"{module}:{function}"} | settings
        quality = Quality(PythonQualityConfig.model_validate(how))
        pairs = [(f"p{number}", text) for number, text in enumerate(texts)]
        asked = prompts(*(("2+2?", "4") for _ in texts))
        try:
            return quality(asked, responses(*pairs)).to_pylist()
        finally:
            quality.close()

    return score


PLACES = pytest.mark.parametrize("processes", [0, 2])


@PLACES
def test_numbers_are_stored_by_row_with_the_settings(scored, processes: int) -> None:
    texts = ["a", None, "four", "<think>long</think>ab", ""]
    rows = scored("length", texts, settings={"factor": 2}, processes=processes, rows_per_call=2)
    assert [row["quality"] for row in rows] == [2.0, None, 8.0, 4.0, None]
    assert [row["outcome"] for row in rows][1] == "no_response"
    assert scored("whole_row", ["4"], processes=processes)[0]["quality"] == 1.0


@PLACES
def test_a_row_that_fails_is_a_null_with_its_reason_and_costs_no_other(scored, processes) -> None:
    texts = ["a", "none", "b", "nan", "text", "raise", "c"]
    rows = scored("by_text", texts, processes=processes)
    assert [row["quality"] for row in rows] == [1.0, None, 1.0, None, None, None, 1.0]
    assert [row["outcome"] for row in rows] == [
        *("scored", "unknown", "scored", "failed", "failed", "failed", "scored")
    ]
    for place, why in ((3, "None says"), (4, "'good'"), (5, "ValueError: a text of this kind")):
        assert why in rows[place]["detail"]


@PLACES
def test_a_wrong_number_of_values_is_never_taken_for_other_rows(scored, processes: int) -> None:
    rows = scored("too_few", ["a", "b", "c"], processes=processes, rows_per_call=2)
    assert [row["quality"] for row in rows] == [1.0, 1.0, 1.0]  # by itself each has one value
    rows = scored("length", ["a", "b"], settings={"absent": 1}, processes=processes)
    assert {row["outcome"] for row in rows} == {"failed"}
    assert "absent" in rows[0]["detail"]


def test_rows_that_hang_or_kill_their_process_are_ended_and_the_others_scored(scored) -> None:
    started = time.monotonic()
    texts = ["a", "hang", "b", "die", "pid"]
    rows = scored("by_text", texts, processes=1, timeout_seconds=4.5, rows_per_call=3)
    assert time.monotonic() - started < 300
    assert [row["outcome"] for row in rows] == [
        "scored",
        "timed_out",
        "scored",
        "crashed",
        "scored",
    ]
    assert "took more than 4.5 s" in rows[1]["detail"]
    assert rows[4]["quality"] != os.getpid()


def test_no_process_outlives_the_quality(scored) -> None:
    (row,) = scored("by_text", ["pid"], processes=1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(row["quality"]), 0)


def own(module: str, function: str, **more: Any) -> dict[str, Any]:
    return {"scoring.quality": {"kind": "python", "function": f"{module}:{function}"} | more}


def test_a_run_scores_with_it_and_changed_code_is_another_quality(
    module: str, make_recipe: Callable[..., Recipe], carry_out: Callable[..., RunLayout]
) -> None:
    recipe = make_recipe(own(module, "length"))
    run = carry_out(recipe, until="rewards")
    part = parts_of(recipe.scoring)[0]
    for teacher in recipe.teachers:
        said = rows_of(run.responses(teacher), "response")
        assert len(said) == 12
        assert rows_of(run.quality(teacher, part), "quality") == {
            name: float(len(text)) for name, text in said.items()
        }
    before = quality_folder(recipe)
    Path(f"{module}.py").write_text(CODE + "\n# another thought\n")
    assert quality_folder(make_recipe(own(module, "length"))) != before
    assert quality_folder(recipe) == before


def rows_of(folder: Folder, column: str) -> dict[str, Any]:
    """Values of a column by prompt."""
    return {
        row["prompt_id"]: row[column] for _, table in folder.tables() for row in table.to_pylist()
    }


def quality_folder(recipe: Recipe) -> str:
    (part,) = parts_of(recipe.scoring)
    return run_of(recipe).quality(recipe.teachers[0], part).address


def test_a_function_that_never_works_ends_the_step_and_says_why(
    module: str, make_recipe: Callable[..., Recipe], carry_out: Callable[..., RunLayout]
) -> None:
    with pytest.raises(StepError, match=r":never' of scoring\.quality .* RuntimeError: no licence"):
        carry_out(make_recipe(own(module, "never")), until="score")


def test_a_plan_says_what_it_is_and_a_run_refuses_what_is_not_there_at_once(
    module: str, make_recipe: Callable[..., Recipe], carry_out: Callable[..., RunLayout]
) -> None:
    recipe = make_recipe(own(module, "length", settings={"factor": 3}, processes=2))
    (note,) = [note for note in plan_run(recipe).notes if "Code of your own" in note]
    assert f"{module}:length, factor=3" in note
    assert "in 2 processes" in note
    assert str(Path(f"{module}.py").absolute()) in note
    absent = make_recipe(own("own_absent", "score"))
    with pytest.raises(ConfigError, match="no such module"):
        plan_run(absent)
    with pytest.raises(ConfigError, match="no module 'own_absent'"):
        carry_out(absent, until="prompts")
