"""Files of an import: what counts as the same, and names that file systems can tell apart."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from persyn_ray.data.importers.writing import BUFFERED, Entry, Response, Tables, file_name


def rows(path: Path) -> list[dict[str, object]]:
    return pq.read_table(path).to_pylist()


def entry(prompt: str, *responses: Response, answer: str | None = None) -> Entry:
    return Entry(prompt, answer, list(responses), [])


@pytest.mark.parametrize(
    ("teacher", "name"),
    [
        ("org/model", "org-model"),
        ("../../etc/passwd", "etc-passwd"),
        (".hidden", "hidden"),
        ("a b\nc", "a-b-c"),
        ("", "teacher"),
        ("...", "teacher"),
        ("x" * 500, "x" * 100),
    ],
)
def test_a_teachers_file_lies_in_its_folder_whatever_it_is_called(teacher: str, name: str) -> None:
    found = file_name(teacher)
    assert found == name


def test_the_first_response_of_a_teacher_to_the_same_prompt_counts(tmp_path: Path) -> None:
    tables = Tables(tmp_path, (), with_answers=False)
    tables.add(entry("Why?\r\n", Response("a", "first"), Response("b", None)))
    tables.add(entry("Why?", Response("a", "second"), Response("b", "late")))
    imported = tables.close()
    assert (imported.num_prompts, imported.num_further) == (1, 1)
    assert imported.num_responses == {"a": 1, "b": 1}
    assert [row["response"] for row in rows(tmp_path / "responses/a.parquet")] == ["first"]
    assert [row["response"] for row in rows(tmp_path / "responses/b.parquet")] == ["late"]
    kept = rows(tmp_path / "further/a.parquet")
    assert [(row["response"], row["sample"]) for row in kept] == [("second", 1)]


def test_teachers_whose_names_make_the_same_file_get_two(tmp_path: Path) -> None:
    tables = Tables(tmp_path, (), with_answers=False)
    tables.add(entry("Why?", Response("org/m", "one"), Response("org-m", "two")))
    tables.close()
    files = sorted((tmp_path / "responses").iterdir())
    found = {str(row["teacher"]): row["response"] for path in files for row in rows(path)}
    assert len(files) == 2
    assert found == {"org/m": "one", "org-m": "two"}


def test_scores_and_answers_stand_beside_their_rows_and_unknown_ones_are_null(
    tmp_path: Path,
) -> None:
    tables = Tables(tmp_path, ("rm", "judge"), with_answers=True)
    tables.add(entry("1+1?", Response("a", "2", (0.5, None)), answer="2"))
    tables.add(entry("2+2?", Response("a", "5", (None, 1.0))))
    tables.close()
    assert [row["answer"] for row in rows(tmp_path / "prompts.parquet")] == ["2", None]
    scores = [(row["rm"], row["judge"]) for row in rows(tmp_path / "responses/a.parquet")]
    assert scores == [(0.5, None), (None, 1.0)]


def test_no_row_is_lost_between_two_writes(tmp_path: Path) -> None:
    tables = Tables(tmp_path, (), with_answers=False)
    num = 2 * BUFFERED + 1
    for number in range(num):
        tables.add(entry(f"p{number}", Response("a", str(number))))
    assert tables.close().num_responses == {"a": num}
    responses = [row["response"] for row in rows(tmp_path / "responses/a.parquet")]
    assert responses == [str(number) for number in range(num)]


def test_an_import_of_nothing_leaves_a_table_that_can_be_read(tmp_path: Path) -> None:
    assert Tables(tmp_path, (), with_answers=True).close().num_prompts == 0
    assert rows(tmp_path / "prompts.parquet") == []
