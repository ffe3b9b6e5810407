"""Rows of files: formats agree, a bad row harms no other, a bad file is named."""

import gzip
import json
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.sources import BadRow, columns_of, expand, rows_of

ROWS = [{"text": "eins, zwei", "n": "1"}, {"text": 'line\nbreak "quoted"', "n": "2"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def write(folder: Path, name: str) -> str:
    path = folder / name
    match name.split(".", 1)[1]:
        case "parquet":
            pq.write_table(pa.Table.from_pylist(ROWS), path)
        case "jsonl":
            path.write_text(LINES)
        case "jsonl.gz":
            path.write_bytes(gzip.compress(LINES.encode()))
        case "json":
            path.write_text(json.dumps(ROWS))
        case "csv":
            path.write_text('text,n\n"eins, zwei",1\n"line\nbreak ""quoted""",2\n')
    return str(path)


def all_rows(file: str) -> list[Any]:
    return [row for _, row in rows_of(file)]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.json", "a.csv"])
def test_every_format_gives_the_same_columns_and_rows(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, name)
    assert columns_of(file) == ["text", "n"]
    assert list(rows_of(file)) == [(1, ROWS[0]), (2, ROWS[1])]


def test_json_with_an_object_a_line_and_a_byte_order_mark_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + LINES.encode())
    assert all_rows(str(path)) == ROWS


def test_globs_are_sorted_lists_keep_their_order_and_brackets_may_be_names(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c[1].jsonl"):
        write(tmp_path, name)
    names = [Path(file).name for file in expand(str(tmp_path / "?.jsonl"), "prompts.path")]
    assert names == ["a.jsonl", "b.jsonl"]
    given = (str(tmp_path / "c[1].jsonl"), str(tmp_path / "a.jsonl"))
    assert expand(given, "prompts.path") == list(given)


def test_other_file_systems_are_read_through_their_address() -> None:
    fsspec.filesystem("memory").pipe("/sources/a.jsonl", LINES.encode())
    (file,) = expand("memory://sources/*.jsonl", "prompts.path")
    assert file.startswith("memory://")
    assert all_rows(file) == ROWS


def test_a_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_assets"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    write(package, "a.jsonl")
    monkeypatch.syspath_prepend(tmp_path)
    (file,) = expand("package:some_assets/a.jsonl", "prompts.path")
    assert all_rows(file) == ROWS
    with pytest.raises(ConfigError, match="no installed package 'not_there'"):
        expand("package:not_there/a.jsonl", "prompts.path")


@pytest.mark.parametrize(
    ("name", "message"), [("no.jsonl", "No file at"), ("*.csv", "No file"), ("a.txt", "ends in")]
)
def test_what_is_not_there_is_named_with_its_setting(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ConfigError, match=rf"{message}.*set prompts\.path"):
        expand(str(tmp_path / name), "prompts.path")


def test_bad_lines_are_handed_on_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    deep = '{"text": ' + "[" * 100_000
    path.write_bytes(f'{{"text": "a"}}\nnot json\n[1]\n\n{deep}\n'.encode() + b'{"text": "\xff"}\n')
    rows = dict(rows_of(str(path)))
    assert rows[1] == {"text": "a"}
    assert [number for number, row in rows.items() if isinstance(row, BadRow)] == [2, 3, 5]
    assert 4 not in rows  # an empty line is no row, but lines are numbered as an editor does
    assert rows[6] == {"text": "\udcff"}  # a bad byte is visible, and somebody else's decision


def test_csv_rows_of_another_length_are_bad(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,n\na,1\nb\nc,3,4\n{'d' * 200_000},5\n")
    kinds = [type(row) for row in all_rows(str(path))]
    assert kinds == [dict, BadRow, BadRow, dict]


def test_parquet_rows_with_bad_bytes_do_not_take_their_neighbours_along(tmp_path: Path) -> None:
    texts = pa.Array.from_buffers(
        pa.string(),
        3,
        [None, pa.array([0, 1, 2, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xffc")],
    )
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    first, bad, last = all_rows(str(tmp_path / "a.parquet"))
    assert (first, last) == ({"text": "a"}, {"text": "c"})
    assert isinstance(bad, BadRow)


@pytest.mark.parametrize("name", ["a.parquet", "a.json"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[damaged")
    with pytest.raises(DataError, match=name):
        all_rows(str(tmp_path / name))


def test_only_the_columns_asked_for_are_read_from_parquet(tmp_path: Path) -> None:
    file = write(tmp_path, "a.parquet")
    assert list(rows_of(file, ["n"])) == [(1, {"n": "1"}), (2, {"n": "2"})]
