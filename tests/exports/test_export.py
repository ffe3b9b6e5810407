"""`persyn export` as a user types it: what is written, where, and what is refused."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.errors import ConfigError
from persyn_ray.exports.export import export
from persyn_ray.exports.form import Facts, Form, Rows, Written
from persyn_ray.exports.forms import FORMS, form_named
from persyn_ray.pipeline.export import export_run
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import PERSYN, RunLayout

Finished = tuple[Recipe, RunLayout]


def files_below(folder: Path) -> set[str]:
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}


def test_the_command_writes_the_examples_and_says_where(finished: Finished, tmp_path: Path) -> None:
    _, run = finished
    asked = ["export", run.root.address, "--to", "trl", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "Wrote 20 rows to" in done.output
    rows = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    examples = [row for _, part in run.examples(PERSYN).tables() for row in part.to_pylist()]
    whole = [row["prompt"] + row["completion"] for row in rows]
    key = json.dumps
    assert sorted(map(key, whole)) == sorted(key(row["messages"]) for row in examples)
    assert {len(row["completion"]) for row in rows} == {1}
    assert files_below(tmp_path / "out") == {"train.parquet", "README.md", "persyn-export.json"}


def test_without_a_place_it_goes_below_the_run(finished: Finished) -> None:
    _, run = finished
    done = export_run(run.root.address, "trl-messages")
    assert done.folder == run.root / "exports" / "trl-messages"
    assert done.folder.exists("train.parquet")


def test_a_later_export_replaces_its_files_and_leaves_those_of_others(
    finished: Finished, tmp_path: Path
) -> None:
    _, run = finished
    out = tmp_path / "out"
    export_run(run.root.address, "trl", str(out))
    (out / "student").mkdir()
    (out / "student" / "model.safetensors").write_text("a week of training")
    marker = json.loads((out / "persyn-export.json").read_text())
    (out / "old.jsonl").write_text("of an earlier form")
    (out / "persyn-export.json").write_text(
        json.dumps(marker | {"files": [*marker["files"], "old.jsonl", "../precious"]})
    )
    (tmp_path / "precious").write_text("not ours")
    export_run(run.root.address, "trl-messages", str(out))
    assert (out / "student" / "model.safetensors").read_text() == "a week of training"
    assert (tmp_path / "precious").exists()
    assert not (out / "old.jsonl").exists()
    assert json.loads((out / "persyn-export.json").read_text())["form"] == "trl-messages"


def test_files_of_others_are_not_overwritten(finished: Finished, tmp_path: Path) -> None:
    _, run = finished
    (tmp_path / "train.parquet").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds train\.parquet, which no export has written"):
        export_run(run.root.address, "trl", str(tmp_path))
    assert (tmp_path / "train.parquet").read_text() == "mine"
    assert files_below(tmp_path) == {"train.parquet"}


def test_an_export_that_fails_leaves_the_earlier_one(
    finished: Finished, tmp_path: Path, facts: Facts
) -> None:
    _, run = finished
    export_run(run.root.address, "trl", str(tmp_path / "out"))
    before = {
        name: (tmp_path / "out" / name).read_bytes() for name in files_below(tmp_path / "out")
    }

    def dies(rows: Rows, where: Path, facts: Facts) -> Written:
        (where / "train.parquet").write_text("half")
        raise RuntimeError("power loss")

    with pytest.raises(RuntimeError):
        export(Form("x", "x", "synthesize", dies), None, facts, Folder(str(tmp_path / "out")))  # pyright: ignore
    after = {name: (tmp_path / "out" / name).read_bytes() for name in files_below(tmp_path / "out")}
    assert after == before


def test_an_export_to_another_file_system(finished: Finished) -> None:
    _, run = finished
    done = export_run(run.root.address, "trl", "memory://exported/here")
    table = done.folder.read_table("train.parquet")
    assert table.num_rows == 20
    assert done.folder.read_json("persyn-export.json")["whole"] is True


def test_an_unknown_form_lists_all(finished: Finished) -> None:
    _, run = finished
    with pytest.raises(ConfigError, match="'llama' is no form") as told:
        export_run(run.root.address, "llama")
    for form in FORMS:
        assert form.name in str(told.value)


def test_names_of_forms_are_unique_and_fit_a_folder() -> None:
    names = [form.name for form in FORMS]
    assert len(set(names)) == len(names)
    assert all(form_named(name).name == name for name in names)
    assert all(name.replace("-", "").isalnum() and name == name.lower() for name in names)


def test_a_run_that_has_not_come_so_far_says_which_step(make_recipe, carry_out) -> None:
    run = carry_out(make_recipe(), until="rewards")
    with pytest.raises(ConfigError, match=r"step synthesize is not finished.*--until synthesize"):
        export_run(run.root.address, "trl")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        export_run(str(tmp_path), "trl")
