"""Where an export goes: folders with an earlier export, with files of others, and after a kill."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.exports.export import export
from persyn_ray.exports.form import Facts, Form, Rows, Written
from persyn_ray.exports.forms import form_named
from persyn_ray.storage.atomic_files import scratch_folder
from persyn_ray.storage.folder import Folder

from .rows import TableRows, routed

MARKER = "persyn-export.json"
Put = Callable[[str], None]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "an out [folder]"


@pytest.fixture
def put(facts: Facts, out: Path) -> Put:
    """Export three rows in a form."""
    rows = TableRows(tuple(routed(number, "train", "a") for number in range(3)))
    return lambda form: export(form_named(form), rows, facts, Folder(str(out))) and None


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(folder)): one.read_bytes()
        for one in sorted(folder.rglob("*"))
        if one.is_file()
    }


def test_another_form_takes_the_place_of_all_files_of_the_one_before(put: Put, out: Path) -> None:
    put("llamafactory")
    assert {"dataset_info.json", "train.yaml"} <= set(contents(out))
    put("jsonl")
    assert set(contents(out)) == {"train.jsonl", "README.md", MARKER}
    assert json.loads((out / MARKER).read_text())["files"] == ["train.jsonl", "README.md"]


def test_the_same_export_twice_gives_the_same_files(put: Put, out: Path) -> None:
    put("llamafactory")
    before = contents(out)
    put("llamafactory")
    assert contents(out) == before


@pytest.mark.parametrize("named", ["", ".", "..", "./", "mine/..", "../beside", "mine//x", "/"])
def test_no_name_in_a_marker_leads_to_files_of_others(
    named: str, put: Put, out: Path, tmp_path: Path
) -> None:
    """A marker may be written by anybody: what it names is deleted only inside the folder."""
    put("trl")
    (out / "mine").mkdir()
    (out / "mine" / "x").write_text("a week of work")
    (tmp_path / "beside").write_text("of others")
    marker = json.loads((out / MARKER).read_text())
    (out / MARKER).write_text(json.dumps(marker | {"files": [*marker["files"], named]}))
    put("jsonl")
    assert (out / "mine" / "x").read_text() == "a week of work"
    assert (tmp_path / "beside").read_text() == "of others"
    assert set(contents(out)) == {"train.jsonl", "README.md", MARKER, "mine/x"}


def test_a_marker_that_cannot_be_read_stops_the_export_and_nothing_is_touched(
    put: Put, out: Path
) -> None:
    put("trl")
    (out / MARKER).write_text('{"files": ["train.par')
    before = contents(out)
    with pytest.raises(DataError, match=r"persyn-export\.json is no valid JSON"):
        put("jsonl")
    assert contents(out) == before


def test_a_marker_of_another_kind_names_nothing(put: Put, out: Path) -> None:
    out.mkdir()
    (out / MARKER).write_text('["train.jsonl"]')
    (out / "train.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds train\.jsonl, which no export has written"):
        put("jsonl")
    assert (out / "train.jsonl").read_text() == "mine"


def test_a_readme_of_others_is_not_overwritten(put: Put, out: Path) -> None:
    out.mkdir()
    (out / "README.md").write_text("# My project")
    with pytest.raises(ConfigError, match=r"holds README\.md.*another folder with -o"):
        put("jsonl")
    assert contents(out) == {"README.md": b"# My project"}


def in_a_folder(rows: Rows, where: Path, facts: Facts) -> Written:
    (where / "data" / "en").mkdir(parents=True)
    (where / "data" / "en" / "rows.txt").write_text("rows")
    return Written(("data/en/rows.txt",), 1, "how")


@pytest.mark.parametrize("name", ["data", "data/en"])
def test_a_file_of_others_where_a_folder_is_needed_keeps_the_earlier_export_whole(
    name: str, put: Put, facts: Facts, out: Path
) -> None:
    put("trl")
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    before = contents(out)
    with pytest.raises(ConfigError, match=f"holds {name}, which no export has written"):
        export(Form("x", "x", "x", in_a_folder), TableRows(()), facts, Folder(str(out)))
    assert contents(out) == before


def test_an_interrupted_form_leaves_nothing_in_a_new_folder(facts: Facts, out: Path) -> None:
    def interrupted(rows: Rows, where: Path, facts: Facts) -> Written:
        (where / "train.parquet").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(Form("x", "x", "x", interrupted), TableRows(()), facts, Folder(str(out)))
    assert list(out.iterdir()) == []


def test_what_a_killed_export_left_aside_goes_with_the_next_one(put: Put, out: Path) -> None:
    killed = "from persyn_ray.storage.atomic_files import scratch_folder as s; import os, pathlib\n"
    killed += f"with s(pathlib.Path({str(out)!r})) as f: (f / 'x').touch(); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", killed]).returncode == -9
    (out / ".tmp-mine").mkdir()
    with scratch_folder(out) as of_another_that_runs:
        assert len(list(out.glob(".tmp-*"))) == 2  # what the killed one left went already
        put("jsonl")
        assert {one.name for one in out.glob(".tmp-*")} == {".tmp-mine", of_another_that_runs.name}


def test_a_kill_while_files_are_moved_is_told_and_mended_by_the_next_export(
    put: Put, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("trl")
    (out / "student.bin").write_text("mine")
    move_in = Folder.move_in
    moved: list[str] = []

    def dies(self: Folder, source: Path, name: str) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(name)
        move_in(self, source, name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "move_in", dies)
        with pytest.raises(KeyboardInterrupt):
            put("llamafactory")
    marker = json.loads((out / MARKER).read_text())
    assert marker["whole"] is False
    there = set(contents(out)) - {MARKER, "student.bin"}
    assert there == set(moved) <= set(marker["files"])
    put("torchtune")
    assert set(contents(out)) == {
        *("train.parquet", "dataset.yaml", "README.md", MARKER, "student.bin")
    }
    assert json.loads((out / MARKER).read_text())["whole"] is True
    assert pq.read_metadata(out / "train.parquet").num_rows == 3


def test_the_marker_says_what_was_written_and_of_what(put: Put, out: Path, facts: Facts) -> None:
    put("torchtune")
    marker = json.loads((out / MARKER).read_text())
    assert (marker["form"], marker["rows"], marker["whole"]) == ("torchtune", 3, True)
    assert marker["fingerprint"] == facts.fingerprint
    assert set(marker["files"]) == set(contents(out)) - {MARKER}
    readme = (out / "README.md").read_text()
    assert readme.startswith("3 rows for torchtune's chat_dataset, of the run 'A run'")
