"""Data sets of one's own: their rows in, examples out; what is none is counted with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from persyn_ray.data.extra_examples import read_extra, require_readable
from persyn_ray.errors import ConfigError
from persyn_ray.recipe.data import DatasetConfig, ExtraDataConfig


def extra(path: Path, rows: list[Any], **settings: Any) -> ExtraDataConfig:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ExtraDataConfig.model_validate({"path": str(path), **settings})


def test_rows_become_examples_and_others_are_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "What is 2+2?", "response": "It is 4."},
        {"prompt": "What is 2+2?\n", "response": "Again 4."},
        {"prompt": "", "response": "To nothing."},
        {"prompt": "Unanswered", "response": " "},
        {"prompt": "A list", "response": 7},
    ]
    read = read_extra(extra(tmp_path / "my data.jsonl", rows))
    first, second = read.table.to_pylist()
    assert first["teacher"] == "extra:my-data"
    assert [turn["content"] for turn in first["messages"]] == ["What is 2+2?", "It is 4."]
    assert second["messages"][-1] == {"role": "assistant", "content": "7"}
    assert (read.num_unreadable, read.num_duplicates) == (2, 1)
    assert read.first_unreadable == "my data.jsonl, row 3: column 'prompt' is empty"


def test_conversations_hold_their_own_response(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi!"},
    ]
    rows = [{"messages": turns}, {"messages": turns[:2]}]
    section = extra(
        tmp_path / "x.jsonl", rows, prompt_column="messages", response_column=None, name="talk"
    )
    read = read_extra(section)
    (row,) = read.table.to_pylist()
    assert (row["teacher"], row["messages"]) == ("extra:talk", turns)
    assert read.num_unreadable == 1  # nobody answers in the other


def test_files_and_columns_that_are_not_there_are_told_before_teachers_are_paid(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.extra\.path"):
        require_readable(ExtraDataConfig(path=str(tmp_path / "none.jsonl")))  # pyright: ignore
    require_readable(extra(tmp_path / "x.jsonl", [{"prompt": ""}, {"prompt": "a", "response": 1}]))
    section = extra(tmp_path / "x.jsonl", [{"question": "?", "response": "!"}])
    with pytest.raises(ConfigError, match=r"prompt_column or response_column of dataset\.extra"):
        require_readable(section)


def test_amounts_and_names_are_given_once(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="give one of them"):
        ExtraDataConfig(path="x.jsonl", ratio=0.5, rows=3)  # pyright: ignore
    with pytest.raises(ValidationError, match="a `name` of its own"):
        DatasetConfig.model_validate({"extra": [{"path": "a/x.jsonl"}, {"path": "b/x.jsonl"}]})
