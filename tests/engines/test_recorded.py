"""Recorded teachers: looked up by text, missing pairs counted, contradictions not averaged."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persyn_ray.engines.base import Message, Request
from persyn_ray.engines.recorded import RecordedEngine
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.recipe.teachers import TeacherConfig

ROWS: list[dict[str, Any]] = [
    {"question": "1+1?", "teacher": "ada", "response": "2", "end": "stop"},
    {"question": "2+2?", "teacher": "bob", "response": "four, with\na line break", "end": "stop"},
    {"question": "2+2? ", "teacher": "ada", "response": "4", "end": "length"},
    {"question": "3+3?", "teacher": "bob", "response": "6", "end": "stop"},
]


def request(text: str) -> Request:
    return Request("p", [Message(role="user", content=text)])


def write(folder: Path, ending: str, rows: list[dict[str, Any]] = ROWS) -> str:
    path = folder / f"recorded.{ending}"
    match ending:
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    return str(path)


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_responses_are_found_by_text_whatever_the_order(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path, ending)
    ada, bob = RecordedEngine(path, "ada"), RecordedEngine(path, "bob")
    asked = [request(" 2+2?\n"), request("3+3?"), request("1+1?")]
    assert [item.text for item in ada.generate(asked)] == ["4", None, "2"]
    assert [item.text for item in bob.generate(asked)] == ["four, with\na line break", "6", None]
    assert [item.finish_reason for item in ada.generate(asked)] == ["stop", "missing", "stop"]
    assert {item.num_tokens for item in ada.generate(asked)} == {0}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("stop", "stop"),
        ("eos_token", "stop"),
        ("end_turn", "stop"),
        (" STOP ", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("loop", "loop"),
        (None, "stop"),
        ("", "stop"),
        ("who knows", "stop"),
        (7, "stop"),
        ("content_filter", "error"),
        ("tool_calls", "error"),
        ("error", "error"),
    ],
)
def test_how_a_response_ended_is_read_in_many_words(
    tmp_path: Path, word: Any, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "jsonl", [ROWS[0] | {"end": word}])
    engine = RecordedEngine(path, "ada", finish_reason_column="end")
    with caplog.at_level(logging.WARNING):
        (completion,) = engine.generate([request("1+1?")])
    assert completion.finish_reason == expected
    assert (completion.text == "2") == (expected != "error")
    assert (completion.error is None) == (expected != "error")
    assert ("taken as complete" in caplog.text) == (word in (None, "", "who knows", 7))


def test_null_ends_nothing_in_typed_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet", [ROWS[0] | {"end": None}, *ROWS[1:]])
    engine = RecordedEngine(path, "ada", finish_reason_column="end")
    engine.check()
    assert [one.text for one in engine.generate([request("1+1?"), request("2+2?")])] == ["2", "4"]


@pytest.mark.parametrize(
    ("stored", "asked"), [(5, "5"), (5.0, "5"), ("5", "5"), (" ada ", "ada"), (b"ada", "ada")]
)
def test_names_of_teachers_compare_as_text(tmp_path: Path, stored: Any, asked: str) -> None:
    path = tmp_path / "recorded.parquet"
    rows = [{"question": "1+1?", "teacher": stored, "response": 2}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    engine = RecordedEngine(str(path), asked)
    engine.check()
    assert engine.generate([request("1+1?")])[0].text == "2"


@pytest.mark.parametrize("name", [5, 5.0])
def test_a_recipe_may_name_a_teacher_by_number(name: Any) -> None:
    engine = {"kind": "recorded", "path": "x", "teacher": name}
    teacher = TeacherConfig.model_validate({"name": "five", "engine": engine})
    assert teacher.engine.teacher == str(name)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_line_ends_make_no_difference(tmp_path: Path, ending: str, ends: str) -> None:
    path = Path(write(tmp_path, ending, [ROWS[0], ROWS[2]]))
    text = path.read_text().replace("\r\n", "\n")
    path.write_bytes(text.replace("\n", ends).encode())
    engine = RecordedEngine(str(path), "ada")
    engine.check()
    assert engine.generate([request("1+1?")])[0].text == "2"


def test_prompts_that_read_the_same_have_the_same_response(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Sum."}, {"role": "user", "content": "Caf\u00e9\r\n1"}]
    rows = [{"question": chat, "teacher": "ada", "response": "2"}]
    engine = RecordedEngine(write(tmp_path, "jsonl", rows), "ada")
    assert engine.generate([request("\ufeffCafe\u0301\n1 ")])[0].text == "2"


def test_rows_that_cannot_be_used_are_counted_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(write(tmp_path, "jsonl"))
    odd = [
        {"question": "5+5?", "teacher": None, "response": "10"},
        {"question": None, "teacher": "ada", "response": "10"},
        {"question": "6+6?", "teacher": "ada", "response": {"text": "12"}},
        {"question": "7+7?", "teacher": "ada", "response": None},
        {"question": "7+7?", "teacher": "ada", "response": "14"},
        {"question": "8+8?", "teacher": "ada", "response": float("nan")},
        {"question": "9+9?", "teacher": "ada", "response": [{"role": "bot", "content": "18"}]},
    ]
    lines = ["{broken", *map(json.dumps, odd), "7"]
    path.write_text(path.read_text() + "\n".join(lines) + "\n")
    engine = RecordedEngine(str(path), "ada")
    for read in (engine.check, lambda: engine.generate([])):
        caplog.clear()
        engine.close()
        with caplog.at_level(logging.WARNING):
            read()
        assert "2 rows that cannot be read (first " in caplog.text
        assert "row 5: no valid JSON" in caplog.text
        assert "1 rows without a teacher" in caplog.text
        assert "1 rows without a prompt" in caplog.text
    asked = [request(text) for text in ("1+1?", "6+6?", "7+7?", "8+8?", "9+9?")]
    found = engine.generate(asked)
    assert [one.text for one in found] == ["2", None, "14", None, "18"]
    assert [one.finish_reason for one in found] == ["stop", "error", "stop", "missing", "stop"]
    assert "row 8, column 'response': a text is expected, found dict" in str(found[1].error)


def test_of_two_answers_the_first_counts_and_a_warning_counts_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [*ROWS, ROWS[0] | {"response": "11"}, ROWS[0]]
    engine = RecordedEngine(write(tmp_path, "jsonl", rows), "ada")
    with caplog.at_level(logging.WARNING):
        assert engine.generate([request("1+1?")])[0].text == "2"
    assert "1 further answers" in caplog.text


def test_an_absent_response_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet", [ROWS[0] | {"response": None}, ROWS[2]])
    (completion,) = RecordedEngine(path, "ada").generate([request("1+1?")])
    assert (completion.text, completion.finish_reason) == (None, "missing")


def test_errors_name_the_file_the_columns_and_the_teachers(tmp_path: Path) -> None:
    path = write(tmp_path, "csv")
    with pytest.raises(ConfigError, match=r"No file at '.*nowhere.parquet'"):
        RecordedEngine(str(tmp_path / "nowhere.parquet"), "ada")
    renamed, stranger = RecordedEngine(path, "ada", "prompt"), RecordedEngine(path, "cy")
    for asked in (RecordedEngine.check, lambda engine: engine.generate([])):
        asked(RecordedEngine(path, "bob"))
        with pytest.raises(ConfigError, match=r"no column \['prompt'\]; it has \['question'"):
            asked(renamed)
        with pytest.raises(ConfigError, match=r"no teacher 'cy' .*\['ada', 'bob'\]"):
            asked(stranger)


def test_a_damaged_file_is_found_before_the_run(tmp_path: Path) -> None:
    path = Path(write(tmp_path, "csv"))
    path.write_text(path.read_text() + '9+9?,"ada,18,stop\n')
    with pytest.raises(DataError, match="quotation mark"):
        RecordedEngine(str(path), "ada").check()


def test_a_closed_engine_reads_again(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl")
    engine = RecordedEngine(path, "ada")
    assert engine.generate([request("1+1?")])[0].text == "2"
    engine.close()
    write(tmp_path, "jsonl", [ROWS[0] | {"response": "two"}])
    assert engine.generate([request("1+1?")])[0].text == "two"


def test_a_prompt_without_an_answer_says_what_was_looked_for(tmp_path: Path) -> None:
    rows = [
        {"question": "1?", "teacher": "ada", "response": "one"},
        {"question": "2?", "teacher": "ada", "response": None},
    ]
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [
        Request(text, [Message(role="user", content=text)])
        for text in ("1?\nThink step by step.", "2?", "x" * 5000)
    ]
    templated, empty, long = RecordedEngine(str(path), "ada").generate(asked)
    assert {one.finish_reason for one in (templated, empty, long)} == {"missing"}
    told = str(templated.error)
    assert all(part in told for part in (str(path), "'question'", "Think", "prompts.template"))
    assert "row 2" in str(empty.error)
    assert "'response'" in str(empty.error)
    assert len(str(long.error)) < 1000
