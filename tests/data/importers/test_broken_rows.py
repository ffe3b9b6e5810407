"""Imports of files in which some rows are broken: the rest arrives, the faults are counted."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.data.importers.forms import FORMS, import_form
from persyn_ray.data.importers.parallel_responses import import_parallel, import_zoo
from persyn_ray.errors import ConfigError, DataError

Row = dict[str, Any]
CHAT = [{"role": "user", "content": "q?"}]
REQUEST = {"custom_id": "1", "body": {"model": "m", "messages": CHAT}}


def result(body: Any, **more: Any) -> Row:
    return {"custom_id": "1", "response": {"status_code": 200, "body": body}} | more


def choice(text: Any) -> Row:
    return result({"model": "m", "choices": [{"message": {"content": text}}]})


GOOD: dict[str, list[Row]] = {
    "distilabel": [{"instruction": "q?", "generation": "yes", "model_name": "m"}],
    "curator": [{"generic_request": {"model": "m", "messages": CHAT}, "response_message": "yes"}],
    "datatrove": [{"text": "q?", "rollout_results": [{"text": "yes"}]}],
    "openai-batch": [REQUEST, choice("yes")],
    "verl": [{"input": "q?", "output": "yes", "score": 1}],
    "nemo-rl": [{"content": [["q?", "yes"]], "rewards": [1.0]}],
    "nemo-gym": [
        {
            "responses_create_params": {"input": CHAT},
            "response": {"model": "m", "choices": [{"message": {"content": "yes"}}]},
            "reward": 1,
        }
    ],
}
BROKEN: dict[str, list[Any]] = {
    "distilabel": [{"instruction": "r?", "generation": ["a", "b"], "model_name": ["m", "n", "o"]}],
    "curator": [{"generic_request": "r?"}, {"generic_request": {"model": "m", "messages": 5}}],
    "datatrove": [{"text": "r?"}, {"rollout_results": [{"text": "x"}]}],
    "openai-batch": [
        {"custom_id": "2", "response": {"body": {"model": "m"}}},
        result(None, error="too long"),
    ],
    "verl": [{"output": "x"}, {"input": "  ", "output": "x"}],
    "nemo-rl": [{"content": [["r?"]]}, {"content": None}],
    "nemo-gym": [{"response": {}}, {"responses_create_params": {"input": CHAT}, "response": {}}],
}


def write(path: Path, rows: list[Any]) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def teacher_of(form: str) -> str | None:
    return None if form in ("distilabel", "curator", "openai-batch", "nemo-gym") else "m"


def said(out: Path, name: str = "m") -> list[Row]:
    return pq.read_table(out / "responses" / f"{name}.parquet").to_pylist()


@pytest.mark.parametrize("form", FORMS)
def test_broken_rows_are_counted_and_the_good_ones_arrive(tmp_path: Path, form: str) -> None:
    bad = BROKEN[form]
    path = write(tmp_path / "r.jsonl", [*bad, "{cut off", *GOOD[form]])
    found = import_form([path], tmp_path / "out", form, teacher_of(form))
    assert [(row["question"], row["response"]) for row in said(tmp_path / "out")] == [("q?", "yes")]
    assert found.num_responses == {"m": 1}
    assert found.num_unreadable >= len(bad) + 1
    assert "r.jsonl, row 1" in str(found.first_unreadable)


@pytest.mark.parametrize("form", FORMS)
def test_files_with_nothing_but_broken_rows_are_refused(tmp_path: Path, form: str) -> None:
    head = [REQUEST] if form == "openai-batch" else []
    path = write(tmp_path / "r.jsonl", [*head, *BROKEN[form]])
    with pytest.raises(DataError, match=r"holds no response.*the first is .*r\.jsonl, row"):
        import_form([path], tmp_path / "out", form, teacher_of(form))
    assert [one.name for one in tmp_path.iterdir()] == ["r.jsonl"]


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "choices": [{"message": "text"}]},
        {"model": "m", "choices": ["x", None]},
        {"model": "m", "output": 5},
        {"model": "m", "output": [{"type": "message", "content": 3}]},
        {"model": "m"},
        "no object",
    ],
)
def test_a_result_of_any_shape_harms_no_other(tmp_path: Path, body: Any) -> None:
    path = write(tmp_path / "b.jsonl", [REQUEST, result(body), choice("yes")])
    found = import_form([path], tmp_path / "out", "openai-batch")
    assert [row["response"] for row in said(tmp_path / "out")] == ["yes"]
    assert found.num_responses == {"m": 1}


@pytest.mark.parametrize("score", [10**400, "1e999", "good", None, [1], {"a": 1}, "nan"])
def test_a_score_that_is_no_number_is_null_and_the_response_stays(
    tmp_path: Path, score: Any
) -> None:
    rows = [{"input": "q?", "output": "yes", "score": score}]
    path = write(tmp_path / "r.jsonl", rows)
    import_form([path], tmp_path / "verl", "verl", "m")
    (row,) = said(tmp_path / "verl")
    assert (row["response"], row["score"]) == ("yes", None)
    cell = {"content": "yes", "ArmoRM-Llama3-8B-v0.1": score}
    zoo = write(tmp_path / "zoo.jsonl", [{"instruction": "q?", "m": cell}])
    import_zoo([zoo], tmp_path / "zoo")
    (row,) = said(tmp_path / "zoo")
    assert (row["response"], row["ArmoRM-Llama3-8B-v0.1"]) == ("yes", None)


@pytest.mark.parametrize("errors", [["too", "long"], "too; long", ("too; long",)])
def test_why_a_request_failed_is_told_as_it_was_said(tmp_path: Path, errors: Any) -> None:
    failed = GOOD["curator"][0] | {"response_message": None, "response_errors": errors}
    path = write(tmp_path / "r.jsonl", [failed, *GOOD["curator"]])
    found = import_form([path], tmp_path / "out", "curator")
    assert found.num_unreadable == 1
    assert str(found.first_unreadable).endswith("response of m: too; long")


def test_several_responses_of_a_teacher_are_first_and_further(tmp_path: Path) -> None:
    rows = [REQUEST, *(choice(text) for text in ("one", "two", "three"))]
    found = import_form([write(tmp_path / "b.jsonl", rows)], tmp_path / "out", "openai-batch")
    assert [row["response"] for row in said(tmp_path / "out")] == ["one"]
    further = pq.read_table(tmp_path / "out" / "further" / "m.parquet").to_pylist()
    assert [(row["response"], row["sample"]) for row in further] == [("two", 1), ("three", 2)]
    assert (found.num_prompts, found.num_further) == (1, 2)


def test_tables_of_spreadsheets_are_imported_as_they_read(tmp_path: Path) -> None:
    lines = ["problem\tteacher\tresponse", '"1,\r\n2?"\ta/b\tyes', "\ta/b\tno", "3?\t\tno", ""]
    (tmp_path / "t.tsv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    found = import_parallel([str(tmp_path / "t.tsv")], tmp_path / "out")
    (row,) = said(tmp_path / "out", "a-b")
    assert row == {"question": "1,\r\n2?", "teacher": "a/b", "response": "yes"}
    assert found.num_unreadable == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--form", "alpaca"], "known are distilabel, curator"),
        (["--form", "verl"], "--teacher-name"),
        (["--form", "curator", "--teacher-name", "m"], "leave --teacher-name out"),
        (
            ["--form", "verl", "--teacher-name", "m", "--prompt-column", "x"],
            "leave out the columns",
        ),
        (["--teacher-name", "m"], "goes with --form"),
        (["--teacher", "m", "--teacher-column", "t"], "the one or the other"),
    ],
)
def test_options_that_do_not_go_together_write_nothing(
    tmp_path: Path, options: list[str], told: str
) -> None:
    path = write(tmp_path / "r.jsonl", [{"problem": "q?", "teacher": "m", "response": "yes"}])
    done = CliRunner().invoke(app, ["import-parallel", path, str(tmp_path / "out"), *options])
    assert isinstance(done.exception, ConfigError)
    assert told in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_globs_of_nothing_and_folders_that_are_there_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [{"problem": "q?", "teacher": "m", "response": "yes"}])
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        import_parallel([path], tmp_path / "mine")
    with pytest.raises(ConfigError, match=r"no-\*\.csv"):
        import_parallel([str(tmp_path / "no-*.csv")], tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine", "r.jsonl"]
