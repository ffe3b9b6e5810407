"""Rows of files: formats agree, a bad row harms no other, a bad file is named."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import tarfile
import zipfile
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persyn_ray.data.files.rows import BadRow, columns_of, expand, rows_of, rows_with
from persyn_ray.errors import ConfigError, DataError

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


def plain(name: str, content: str | bytes) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def csv_rows(folder: Path, content: str | bytes, name: str = "a.csv") -> list[Any]:
    return all_rows(plain(name, content)(folder))


AB = [{"prompt": "a", "n": "1"}, {"prompt": "b", "n": "2"}]


@pytest.mark.parametrize(
    "content",
    [
        "prompt,n\na,1\nb,2\n",
        "prompt,n\r\na,1\r\nb,2\r\n",
        "prompt,n\ra,1\rb,2\r",
        "prompt;n\na;1\nb;2\n",
        "prompt\tn\na\t1\nb\t2\n",
        "prompt|n\na|1\nb|2",
        '"prompt";"n"\n"a";"1"\n"b";"2"\n',
        "\ufeffprompt,n\na,1\nb,2\n",
        "\n\nprompt,n\n\na,1\n\nb,2\n\n",
        "prompt , n\na,1\nb,2\n",
        'prompt, n\n"a", "1"\nb, 2\n',
        "sep=;\r\nprompt;n\r\na;1\r\nb;2\r\n",
        "\nsep=|\n\nprompt|n\na|1\nb|2\n",
        "prompt,n\na,1,\nb,2,,\n",
        "\ufeffprompt;n\r\na;1\r\nb;2\r\n".encode("utf-16-le"),
        "\ufeffprompt\tn\r\na\t1\r\nb\t2\r\n".encode("utf-16-be"),
    ],
)
def test_csv_as_spreadsheets_and_programs_write_it(tmp_path: Path, content: str | bytes) -> None:
    assert csv_rows(tmp_path, content) == AB


def test_csv_with_more_columns_than_names_or_empty_ones(tmp_path: Path) -> None:
    assert csv_rows(tmp_path, "prompt,n,\na,1,\n,2,\n") == [
        {"prompt": "a", "n": "1", "": None},
        {"prompt": None, "n": "2", "": None},
    ]


def test_csv_fields_may_hold_marks_lines_delimiters_and_nul(tmp_path: Path) -> None:
    content = 'text,n\n"a ""b"", c\n\nd",1\n5" pipe,2\nx\x00y,3\n'
    texts = [row["text"] for row in csv_rows(tmp_path, content)]
    assert texts == ['a "b", c\n\nd', '5" pipe', "x\x00y"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('p,n\n"a",1\n"b,2\nc,3\nd,4\n', 3),  # swallows all that follows
        ('p,n\na,1\nb,"2\nc,3\n', 3),
        ('p,n\n"a,1\n"b",2\nc,3\n', 2),  # swallows one row
        ('p,n\na,1\n\n"b,2\nc says "yes",3\n', 4),
        ('p,n\n"a\n\nb",1\n"c,2\n', 5),
        ('p,n\n"say \\"yes\\"",1\n', 2),
        ('"p,n\na,1\n', 1),
        ('\n\np;n\na;1\n"b;2\n', 5),
        ('sep=;\np;n\na;1\n"b;2\n', 4),
    ],
)
def test_a_quotation_mark_left_open_is_refused_with_its_line(
    tmp_path: Path, content: str, line: int
) -> None:
    with pytest.raises(DataError, match=rf"a\.csv, line {line}: .*quotation mark"):
        csv_rows(tmp_path, content)


FIELD = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=6
)  # a lone CR is a line end to some writers


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(FIELD, FIELD, FIELD), min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_well_formed_csv_is_read_as_it_was_written(
    tmp_path: Path, rows: list[tuple[str, ...]], delimiter: str, quoting: Any
) -> None:
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
        writer.writerows([("one", "two", "three"), *rows])
    expected = [
        {name: field or None for name, field in zip(("one", "two", "three"), row, strict=True)}
        for row in rows
    ]
    assert all_rows(str(tmp_path / "a.csv")) == expected


def compressed(kind: str) -> bytes:
    raw = "".join(f'{{"text": "{number * 7919}"}}\n' for number in range(20_000)).encode()
    if kind == "zst":
        out = pa.BufferOutputStream()
        with pa.CompressedOutputStream(out, "zstd") as stream:
            stream.write(raw)
        return out.getvalue().to_pybytes()
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind](raw)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_compressed_text_is_read_also_in_several_parts(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a.jsonl.{kind}").write_bytes(compressed(kind) * 2)
    rows = all_rows(str(tmp_path / f"a.jsonl.{kind}"))
    assert len(rows) == 40_000
    assert rows[:20_000] == rows[20_000:]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_compressed_text_that_was_cut_off_is_refused(
    tmp_path: Path, kind: str, share: float
) -> None:
    content = compressed(kind)
    (tmp_path / f"a.jsonl.{kind}").write_bytes(content[: max(20, int(len(content) * share))])
    with pytest.raises(DataError, match=rf"a\.jsonl\.{kind} cannot be read: .*ends too early"):
        all_rows(str(tmp_path / f"a.jsonl.{kind}"))


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])  # zst need not hold a checksum
def test_compressed_text_with_a_wrong_byte_is_refused(tmp_path: Path, kind: str) -> None:
    content = bytearray(compressed(kind))
    content[len(content) // 2] ^= 0xFF
    (tmp_path / f"a.jsonl.{kind}").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.jsonl\.{kind} cannot be read: "):
        all_rows(str(tmp_path / f"a.jsonl.{kind}"))


def tar_of(name: str, content: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        about = tarfile.TarInfo(name)
        about.size = len(content)
        archive.addfile(about, io.BytesIO(content.encode()))
    return packed.getvalue()


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
HTML = "\n<!DOCTYPE html>\n<html><body>Sign in</body></html>"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.jsonl.gz", LINES, r"is not gzip data, as its name says; it begins with b'\{"),
        ("a.jsonl.bz2", LINES, "is not bzip2 data"),
        ("a.jsonl.xz", LINES, "is not xz data"),
        ("a.jsonl.zst", LINES, "cannot be read: "),
        ("a.csv.gz", "text,n\n", "is not gzip data"),
        ("a.jsonl", gzip.compress(LINES.encode()), r"is gzip data: give its name .* \.gz"),
        ("a.csv", compressed("zst"), r"is Zstandard data: give its name .* \.zst"),
        ("a.jsonl.gz", compressed("zst"), r"is Zstandard data: give its name .* \.zst"),
        ("a.jsonl", b"PAR1....PAR1", r"is a parquet file: give its name .* \.parquet"),
        ("a.csv", b"PK\x03\x04....", "is a ZIP archive or an Excel workbook"),
        ("a.parquet", HTML, "is a web page"),
        ("a.jsonl", HTML, "is a web page"),
        ("a.csv", HTML, "is a web page"),
        ("a.parquet", LFS, "is a pointer of Git LFS"),
        ("a.jsonl.gz", LFS, "is a pointer of Git LFS"),
        ("a.csv", LFS, "is a pointer of Git LFS"),
        ("a.jsonl", "", "is empty"),
        ("a.csv", "", "is empty"),
        ("a.json", "", "is empty"),
        ("a.parquet", "", "is empty"),
        ("a.jsonl.gz", "", "is empty"),
        ("a.parquet", LINES, "is not a parquet file"),
        ("a.parquet", b"PAR1" + b"x" * 100, "cannot be read: "),
        ("a.json", '[{"text": "a"}, {"te', "is no valid JSON"),
        ("a.jsonl.gz", gzip.compress(tar_of("a.jsonl", LINES)), "is a tar archive"),
    ],
    ids=lambda given: "bytes" if isinstance(given, bytes) else None,
)
@pytest.mark.parametrize("read", [all_rows, columns_of])
def test_a_file_that_is_not_what_its_name_says_is_refused(
    tmp_path: Path, name: str, content: str | bytes, why: str, read: Any
) -> None:
    with pytest.raises(DataError, match=rf"{re.escape(name)} {why}"):
        read(plain(name, content)(tmp_path))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").mkdir()
    for path in (tmp_path, tmp_path / "data.jsonl"):
        with pytest.raises(ConfigError, match=r"is a folder: set prompts\.path to the files in it"):
            expand(str(path), "prompts.path")


def test_files_in_archives_have_addresses(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/a.jsonl", LINES)
        archive.writestr("in/b.jsonl.gz", gzip.compress(LINES.encode()))
    files = expand(f"zip://in/*::{tmp_path / 'a.zip'}", "prompts.path")
    assert [all_rows(file) for file in files] == [ROWS, ROWS]


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/a.jsonl", "http://127.0.0.1:9/*.csv", "foo://b"]
)
def test_a_storage_that_cannot_be_reached_is_named_with_the_setting(address: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{re.escape(address)}' \(set prompts\.path\): "):
        expand(address, "prompts.path")


def test_a_storage_that_fails_while_it_is_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusal(Exception):
        """As storages have their own."""

    def refuse(*_: object, **__: object) -> None:
        raise Refusal("try later")

    fsspec.filesystem("memory").pipe("/fails/a.jsonl", LINES.encode())
    (file,) = expand("memory://fails/a.jsonl", "prompts.path")
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.readinto", refuse, raising=False)
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.read", refuse, raising=False)
    with pytest.raises(DataError, match=r"memory://.*a\.jsonl cannot be read: try later\."):
        all_rows(file)


def test_endings_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "A.CSV").write_text("text,n\na,1\n")
    (tmp_path / "A.JSONL.GZ").write_bytes(gzip.compress(LINES.encode()))
    first, second = expand((str(tmp_path / "A.CSV"), str(tmp_path / "A.JSONL.GZ")), "prompts.path")
    assert all_rows(first) == [{"text": "a", "n": "1"}]
    assert all_rows(second) == ROWS


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\n\n" + json.dumps(ROWS) + "\n\n",
        "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson"])
def test_a_list_is_read_whatever_the_ending(tmp_path: Path, name: str, content: str) -> None:
    assert all_rows(plain(name, content)(tmp_path)) == ROWS


@pytest.mark.parametrize("between", ["\n", "", "\n\n", " "])
def test_objects_may_stand_in_several_lines_each(tmp_path: Path, between: str) -> None:
    content = between.join(json.dumps(row, indent=2) for row in ROWS)
    assert all_rows(plain("a.jsonl", content)(tmp_path)) == ROWS
    with pytest.raises(DataError, match=r"a\.jsonl is no valid JSON: .*line 4"):
        all_rows(plain("a.jsonl", content[: content.index("}")])(tmp_path))


def test_lines_that_are_lists_are_lines(tmp_path: Path) -> None:
    rows = all_rows(plain("a.jsonl", '[1]\n\n[2]\n{"text": "a"}\n')(tmp_path))
    assert [isinstance(row, BadRow) for row in rows] == [True, True, False]


def test_what_is_no_json_number_is_no_value_and_others_stay_as_written(tmp_path: Path) -> None:
    content = '{"a": NaN, "b": [Infinity, -Infinity], "c": 1e-5, "d": 18.70, "e": 9007199254740993}'
    ((row),) = all_rows(plain("a.jsonl", content)(tmp_path))
    assert row == {
        "a": None,
        "b": [None, None],
        "c": Decimal("1e-5"),
        "d": Decimal("18.70"),
        "e": 2**53 + 1,
    }
    assert str(row["d"]) == "18.70"


def test_a_line_separator_of_unicode_ends_no_row(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\u0085c\x0bd"}]
    content = json.dumps(rows[0], ensure_ascii=False)
    assert all_rows(plain("a.jsonl", content)(tmp_path)) == rows


def test_parquet_gives_what_was_stored(tmp_path: Path) -> None:
    day = datetime(2024, 2, 29)
    table = pa.table(
        {
            "f32": pa.array([0.1, None], pa.float32()),
            "bytes": pa.array([b"72", b"\xff"], pa.binary()),
            "money": pa.array([Decimal("18.70"), None], pa.decimal128(10, 2)),
            "big": pa.array([2**53 + 1, None], pa.int64()),
            "day": pa.array([day, day], pa.timestamp("ns")),
            "chat": pa.array(
                [[{"role": b"user", "content": b"Hi"}], None],
                pa.list_(pa.map_(pa.string(), pa.binary())),
            ),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = all_rows(str(tmp_path / "a.parquet"))
    assert first == {
        "f32": 0.1,
        "bytes": "72",
        "money": Decimal("18.70"),
        "big": 2**53 + 1,
        "day": day,
        "chat": [{"role": "user", "content": "Hi"}],
    }
    assert second["bytes"] == "\udcff"


def test_a_value_that_python_cannot_hold_spoils_its_row_alone(tmp_path: Path) -> None:
    days = pa.array([0, 10**15, 1], pa.int64()).cast(pa.timestamp("s"))
    pq.write_table(pa.table({"day": days, "n": [1, 2, 3]}), tmp_path / "a.parquet")
    rows = all_rows(str(tmp_path / "a.parquet"))
    assert [isinstance(row, BadRow) for row in rows] == [False, True, False]


def read_with(files: list[str], *columns: str, also: tuple[str, ...] = ()) -> list[Any]:
    return [row for _, _, row in rows_with(files, columns, "the setting", also)]


@pytest.mark.parametrize("late", [100, 101, 5_000])
def test_a_key_may_come_late(tmp_path: Path, late: int) -> None:
    lines = [f'{{"p": "{number}"}}\n' for number in range(late)] + ['{"p": "x", "answer": "7"}\n']
    file = plain("a.jsonl", "".join(lines))(tmp_path)
    assert columns_of(file) == ["p", "answer"]
    rows = read_with([file], "p", "answer")
    assert (len(rows), rows[-1]["answer"]) == (late + 1, "7")
    other = plain("b.jsonl", lines[0])(tmp_path)
    assert len(read_with([other, file], "p", "answer")) == late + 2


def test_a_key_that_no_row_has_is_missing_and_the_nearest_is_named(tmp_path: Path) -> None:
    content = '{"Prompt": "a", "n": 1}\n{"m": 2}\n'
    file = plain("a.jsonl", content)(tmp_path)
    says = (
        r"a\.jsonl has no column \['prompt'\]; it has \['Prompt', 'n', 'm'\]\. 'Prompt' is nearest "
        r"to 'prompt'\. Set the setting\."
    )
    with pytest.raises(ConfigError, match=says):
        read_with([file], "prompt")
    with pytest.raises(ConfigError, match=r"None of 2 files such as .*a\.jsonl has no column"):
        read_with([file, plain("b.jsonl", content)(tmp_path)], "n", "prompt")
    assert all(isinstance(r, BadRow) for r in read_with([plain("c.jsonl", "{\n")(tmp_path)], "p"))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_header_without_the_column_is_refused_before_the_first_row(
    tmp_path: Path, name: str
) -> None:
    first, second = write(tmp_path, name), plain("z.csv", "text;m\n")(tmp_path)
    rows = rows_with([first, second], ["text", "n"], "the setting")
    with pytest.raises(ConfigError, match=r"z\.csv has no column \['n'\]; it has \['text', 'm'\]"):
        next(rows)


def test_a_text_in_place_of_the_header_makes_no_endless_message(tmp_path: Path) -> None:
    file = plain("a.csv", f"{'long ' * 10_000},n\na,1\n")(tmp_path)
    with pytest.raises(ConfigError, match=r"no column \['p'\]") as caught:
        read_with([file], "p")
    assert len(str(caught.value)) < 1_000


def test_a_column_that_is_there_twice_is_nobody_s(tmp_path: Path) -> None:
    file = plain("a.csv", "p,n,n\na,1,2\n")(tmp_path)
    with pytest.raises(ConfigError, match=r"several columns named \['n'\]"):
        read_with([file], "p", "n")
    assert read_with([file], "p")[0]["p"] == "a"


def test_columns_that_may_be_there_are_read_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files = [write(tmp_path, "a.parquet"), write(tmp_path / "other", "a.csv")]
    assert read_with(files, "n", also=("text", "more")) == [*ROWS, *ROWS]
    pq.write_table(pa.table({"n": [1]}), tmp_path / "b.parquet")
    assert read_with([str(tmp_path / "b.parquet")], "n", also=("text",)) == [{"n": 1}]


NUMBERED = [{"text": f"q{number}", "n": number} for number in range(4)]
OBJECTS = [json.dumps(row) for row in NUMBERED]


@pytest.mark.parametrize(
    "text",
    [
        ",\n".join(OBJECTS) + ",\n",  # as cut out of a list
        "[\n" + ",\n".join(OBJECTS) + ",\n]\n",
        "".join(OBJECTS),
        " ".join(OBJECTS[:2]) + "\n" + ", ".join(OBJECTS[2:]),
        "\ufeff" + "\n".join(OBJECTS[:2]) + "\n\ufeff" + "\n".join(OBJECTS[2:]),  # joined exports
        "\n".join(one.replace(", ", ",\n ") for one in OBJECTS),
        ",\n".join(json.dumps(row, indent=2) for row in NUMBERED),
        "\r".join(OBJECTS),
    ],
    ids=["commas", "list", "one line", "several", "marks", "compact", "indented", "cr"],
)
def test_objects_are_read_however_they_are_parted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(text.encode())
    assert all_rows(str(path)) == NUMBERED


@pytest.mark.parametrize("bad", ['{"text": ', "// a remark", '{"text": "a"} and more', "{'a': 1}"])
def test_a_bad_line_is_one_bad_row_and_harms_no_other(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{OBJECTS[0]},\n{bad}\n{OBJECTS[1]}\n")
    first, second, third = all_rows(str(path))
    assert (first, third) == (NUMBERED[0], NUMBERED[1])
    assert isinstance(second, BadRow)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_utf_16_needs_no_mark(tmp_path: Path, name: str, encoding: str) -> None:
    path = tmp_path / name
    text = LINES if name == "a.jsonl" else 'text,n\n"eins, zwei",1\n"line\nbreak ""quoted""",2\n'
    path.write_bytes(text.encode(encoding))
    assert all_rows(str(path)) == ROWS


def test_an_old_workbook_is_named_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504))
    with pytest.raises(DataError, match=r"a\.csv is an old Excel workbook.*CSV"):
        all_rows(str(path))
