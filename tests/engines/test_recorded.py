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


def test_a_recorded_finish_reason_is_kept_and_a_strange_one_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet")
    engine = RecordedEngine(path, "ada", finish_reason_column="end")
    reasons = [item.finish_reason for item in engine.generate([request("1+1?"), request("2+2?")])]
    assert reasons == ["stop", "length"]
    strange = write(tmp_path, "jsonl", [ROWS[0] | {"end": "eos"}])
    engine = RecordedEngine(strange, "ada", finish_reason_column="end")
    with pytest.raises(DataError, match="row 1: 'end' is 'eos'"):
        engine.generate([])


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


def test_a_damaged_row_stops_with_its_number(tmp_path: Path) -> None:
    path = Path(write(tmp_path, "jsonl"))
    path.write_text(path.read_text() + '{"question": \n')
    with pytest.raises(DataError, match="row 5"):
        RecordedEngine(str(path), "ada").generate([])


def test_a_closed_engine_reads_again(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl")
    engine = RecordedEngine(path, "ada")
    assert engine.generate([request("1+1?")])[0].text == "2"
    engine.close()
    write(tmp_path, "jsonl", [ROWS[0] | {"response": "two"}])
    assert engine.generate([request("1+1?")])[0].text == "two"
