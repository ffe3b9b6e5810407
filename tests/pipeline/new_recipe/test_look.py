"""What `persyn init` sees in a file of prompts: which column is which, and when it must ask."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.pipeline.new_recipe.look import Looked, look_at


def written(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def rows(num: int = 6, **columns: Any) -> list[dict[str, Any]]:
    """Rows with distinct questions; of a column a value, or a function of the row's number."""
    return [
        {"question": f"What is {n} + {n}?"}
        | {name: made(n) if callable(made) else made for name, made in columns.items()}
        for n in range(num)
    ]


def test_prompts_answers_and_tasks_are_found_by_name_and_content(tmp_path: Path) -> None:
    found = look_at(
        written(tmp_path, rows(answer=lambda n: str(2 * n), subject=lambda n: "ab"[n % 2]))
    )
    assert (found.column, found.reference_column, found.task_column) == (
        "question",
        "answer",
        "subject",
    )
    assert found.num_prompts == 6


def test_names_are_known_whatever_their_capitals(tmp_path: Path) -> None:
    made = [{" Prompt ": row["question"], "ANSWER": "1"} for row in rows()]
    found = look_at(written(tmp_path, made))
    assert (found.column, found.reference_column) == (" Prompt ", "ANSWER")


def test_a_usual_name_without_prompts_in_it_is_passed_over(tmp_path: Path) -> None:
    made = [{"prompt": "", "body": row["question"]} for row in rows()]
    assert look_at(written(tmp_path, made)).column == "body"


def test_long_answers_are_references_only_with_a_mark(tmp_path: Path) -> None:
    text = "Because of this and that and more, " * 5
    assert look_at(written(tmp_path, rows(answer=text))).reference_column is None
    marked = look_at(written(tmp_path, rows(answer=f"{text} #### 7")))
    assert marked.reference_column == "answer"


def test_answers_that_many_rows_lack_are_no_references(tmp_path: Path) -> None:
    found = look_at(written(tmp_path, rows(10, answer=lambda n: "1" if n < 8 else None)))
    assert found.reference_column is None


@pytest.mark.parametrize(
    "labels", [lambda n: "same", lambda n: f"own {n}", lambda n: "long " * 20 + "ab"[n % 2]]
)
def test_labels_are_few_short_and_differ(tmp_path: Path, labels: Any) -> None:
    assert look_at(written(tmp_path, rows(60, task=labels))).task_column is None


def test_two_columns_of_texts_without_a_usual_name_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, [{"first": "a text", "second": "another"}])
    with pytest.raises(ConfigError, match=r"Which column .*'first', 'second'.*--column NAME"):
        look_at(path)
    assert look_at(path, "second").column == "second"


@pytest.mark.parametrize(
    ("path", "column", "error", "told"),
    [
        ("hub:openai/gsm8k", None, ConfigError, "is on the hub"),
        ("prompts.jsonl", "prompt", ConfigError, "has no column 'prompt'"),
        ("nothing.jsonl", None, ConfigError, "nothing.jsonl"),
        ("broken.jsonl", None, DataError, "no rows that can be read"),
    ],
)
def test_what_cannot_be_looked_at_says_why(
    tmp_path: Path, path: str, column: str | None, error: type[Exception], told: str
) -> None:
    written(tmp_path, rows())
    (tmp_path / "broken.jsonl").write_text("{no json\n", "utf-8")
    place = path if path.startswith("hub:") else str(tmp_path / path)
    with pytest.raises(error, match=told):
        look_at(place, column)


@given(st.integers(1, 10**7))
def test_the_parallel_set_is_a_part_of_the_prompts(num: int) -> None:
    found = Looked("p", ("question",), "question", None, None, num)
    assert 1 <= found.num_parallel <= min(num, 2500)
