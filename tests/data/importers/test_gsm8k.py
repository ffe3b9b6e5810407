"""The converter of recorded GSM8K answers, on small files of the published shape."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from persyn_ray.data.importers.gsm8k import CHAT, FINE_TUNED, write_gsm8k_parallel
from persyn_ray.errors import ConfigError, DataError

QUESTIONS = ("How many eggs, 3 or 4?\nSay it.", "What is 1,000 + 200?")


def problem(number: int, answer: str) -> dict[str, Any]:
    solutions = {
        name: {"solution": f"{name} says {number}", "is_correct": number == 0}
        for name in FINE_TUNED
    }
    return {"question": QUESTIONS[number], "ground_truth": f"Work.\nA: {answer}"} | solutions


def chat(question: str) -> dict[str, str]:
    responses = {f"{name}_response": f" {name} thinks.\n" for name in CHAT}
    return {"prompt": f"{question}\n", CHAT[0]: "True", CHAT[1]: "False"} | responses


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    solutions, responses = tmp_path / "solutions.jsonl", tmp_path / "responses.csv"
    lines = [problem(0, "4"), problem(1, "1,200")]
    solutions.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    with responses.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(chat("")))
        writer.writeheader()
        writer.writerow(chat(QUESTIONS[0]))
    return solutions, responses


def test_every_recorded_answer_becomes_a_row(sources: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert write_gsm8k_parallel(*sources, out) == 10  # four for each question, two chats for one
    rows = pq.read_table(out).to_pylist()
    assert list(rows[0]) == ["question", "answer", "teacher", "response", "is_correct"]
    first = [row for row in rows if row["question"] == QUESTIONS[0]]
    assert [row["teacher"] for row in first] == [*FINE_TUNED, *CHAT]
    assert [row["is_correct"] for row in first] == [True] * 5 + [False]
    assert first[-1]["response"] == f"{CHAT[1]} thinks."


def test_answers_lose_their_commas(sources: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    write_gsm8k_parallel(*sources, out)
    assert set(pq.read_table(out)["answer"].to_pylist()) == {"4", "1200"}


def test_a_missing_source_is_refused(sources: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.csv"):
        write_gsm8k_parallel(sources[0], tmp_path / "absent.csv", tmp_path / "out.parquet")


def test_sources_of_another_shape_are_refused_by_column(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    sources[0].write_text(json.dumps({"question": "x"}) + "\n")
    with pytest.raises(DataError, match="ground_truth"):
        write_gsm8k_parallel(*sources, tmp_path / "out.parquet")
    sources[1].write_text("question,answer\nx,y\n")
    with pytest.raises(DataError, match="prompt"):
        write_gsm8k_parallel(*sources, tmp_path / "out.parquet")


def test_a_file_that_is_there_is_not_overwritten(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    out.write_bytes(b"somebody's work")
    with pytest.raises(ConfigError, match="there already"):
        write_gsm8k_parallel(*sources, out)
    assert out.read_bytes() == b"somebody's work"
    with pytest.raises(ConfigError, match="there already"):
        write_gsm8k_parallel(*sources, sources[0])
