"""Recorded scores: found by the texts that were scored, unknown where the table is silent."""

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import RecordedScoresConfig, needs_reference
from persyn_ray.shards.score import check_of, checks_and_models
from persyn_ray.stages.quality import Quality
from persyn_ray.storage.schemas import QUALITY

Table = Callable[..., pa.Table]
Row = dict[str, Any]
ROWS: list[Row] = [
    {"question": " 1+1?", "response": "2", "rm": 3.5},
    {"question": "2+2?", "response": "4", "rm": None},
    {"question": "2+2?", "response": "5", "rm": -1.0},
]


def write(folder: Path, rows: list[Row], ending: str = "parquet") -> str:
    path = folder / f"scores.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


def recorded(path: str, score_column: str = "rm", **columns: str) -> RecordedScoresConfig:
    return RecordedScoresConfig(kind="recorded", path=path, score_column=score_column, **columns)


def qualities(
    how: RecordedScoresConfig, *tables: pa.Table, section: ResponsesConfig | None = None
) -> list[Any]:
    table = Quality(how, section)(*tables)
    assert table.schema == QUALITY
    return list(zip(table["quality"].to_pylist(), table["outcome"].to_pylist(), strict=True))


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_a_score_belongs_to_a_prompt_and_a_response(
    tmp_path: Path, ending: str, prompts: Table, responses: Table
) -> None:
    asked = prompts(("1+1?", None), ("2+2?", None), ("3+3?", None))
    said = responses(("p1", "5"), ("p0", "2"), ("p1", "4"), ("p0", "5"), ("p2", None))
    assert qualities(recorded(write(tmp_path, ROWS, ending)), asked, said) == [
        (-1.0, "scored"),
        (3.5, "scored"),
        (None, "not_recorded"),  # the table is silent
        (None, "not_recorded"),  # scored for another prompt only
        (None, "no_response"),
    ]


def test_the_score_is_that_of_what_the_student_sees(
    tmp_path: Path, prompts: Table, responses: Table
) -> None:
    thought = "<think>well</think>\n\n2"
    how = recorded(write(tmp_path, [ROWS[0] | {"response": thought}]))
    asked, said = prompts(("1+1?", None)), responses(("p0", thought))
    for thinking in ("keep", "strip"):
        section = ResponsesConfig.model_validate({"thinking": thinking})
        assert qualities(how, asked, said, section=section) == [(3.5, "scored")]


def test_equal_responses_have_the_mean_score_in_any_order(
    tmp_path: Path, prompts: Table, responses: Table
) -> None:
    rows = [ROWS[0] | {"rm": value} for value in (0.1, 0.2, 0.3, None, float("nan"))]
    asked, said = prompts(("1+1?", None)), responses(("p0", "2"))
    for ordered in (rows, rows[::-1]):
        how = recorded(write(tmp_path, ordered))
        assert qualities(how, asked, said) == [(pytest.approx(0.2, abs=1e-15), "scored")]


def test_published_verdicts_are_scores_too(
    tmp_path: Path, prompts: Table, responses: Table
) -> None:
    rows = [{"text": "1+1?", "said": text, "right": text == "2"} for text in ("2", "3")]
    how = recorded(write(tmp_path, rows), "right", prompt_column="text", response_column="said")
    said = responses(("p0", "3"), ("p0", "2"))
    assert [value for value, _ in qualities(how, prompts(("1+1?", None)), said)] == [0.0, 1.0]


def test_what_is_no_score_is_unknown_and_counted(
    tmp_path: Path, prompts: Table, responses: Table, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, [*ROWS, ROWS[0] | {"response": "II", "rm": "good"}], "jsonl")
    Path(path).write_text(Path(path).read_text() + "{\n")
    how = recorded(path)
    said = responses(("p0", "2"), ("p0", "II"))
    with caplog.at_level(logging.WARNING):
        found = qualities(how, prompts(("1+1?", None)), said)
    assert found == [(3.5, "scored"), (None, "not_recorded")]
    assert "1 rows whose score is no number (first " in caplog.text
    assert "row 4: 'good'" in caplog.text
    assert "1 rows that cannot be read" in caplog.text


def test_a_table_without_scores_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, [row | {"rm": "good"} for row in ROWS], "jsonl")
    with pytest.raises(DataError, match=r"no score: 3 rows .*'good'.*scoring\.quality\.score_col"):
        Quality(recorded(path))
    with pytest.raises(ConfigError, match=r"no column \['skywork'\]; it has .* Set score_column"):
        Quality(recorded(path, "skywork"))
    with pytest.raises(ConfigError, match=r"scoring\.quality\.path"):
        Quality(recorded(str(tmp_path / "absent.parquet")))


def test_it_reads_no_reference_and_checks_nobody(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    how = {"kind": "recorded", "path": str(tmp_path / "scores.parquet"), "score_column": "rm"}
    recipe = make_recipe({"scoring.quality": how, "prompts.reference_column": None})
    assert not needs_reference(recipe.scoring.quality)
    assert check_of(recipe.evaluate, recipe.scoring) is None
    checks, apart = checks_and_models(recipe.scoring)
    assert (len(checks), len(apart)) == (0, 1)
