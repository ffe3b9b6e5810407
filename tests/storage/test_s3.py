"""Run folders on S3, against a local S3 server: what is written is seen at once and whole, and a
run there comes to the same as a local one."""

import json
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console
from s3fs import S3FileSystem

from persyn_ray.engines.base import Completion, Request
from persyn_ray.engines.scripted import ScriptedEngine
from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.results.report import write_report
from persyn_ray.pipeline.runner import planned_steps, run_recipe
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.part_files import existing
from persyn_ray.storage.folder import Folder, shard_name
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.schemas import RESPONSES

from ..s3_server import BUCKET


@pytest.fixture
def folder(s3: Any) -> Folder:
    return Folder.absolute(f"s3://{BUCKET}/runs/x")


def test_what_is_written_is_read_back_listed_and_removed(folder: Folder) -> None:
    assert not folder.exists()
    assert folder.names() == []
    folder.write_json("b.json", {"x": [1, None]})
    folder.write_text("sub/c.txt", "grüß\n")
    assert pickle.loads(pickle.dumps(folder)).read_json("b.json") == {"x": [1, None]}
    assert (folder / "sub").read_text("c.txt") == "grüß\n"
    assert folder.names() == ["b.json", "sub"]
    assert folder.names(".json") == ["b.json"]
    assert folder.exists("sub")
    assert not folder.exists("su")
    (folder / "sub" / "").remove()
    folder.remove("b.json")
    folder.remove("b.json")
    assert not folder.exists()
    folder.remove()


def test_a_file_that_is_there_is_not_created_again(folder: Folder) -> None:
    assert folder.create_bytes("000001.json", b"first")
    assert not folder.create_bytes("000001.json", b"second")
    assert folder.read_text("000001.json") == "first"


def test_a_table_keeps_its_rows_and_its_schema(folder: Folder) -> None:
    table = pa.table({"prompt_id": ["a", "b"], "score": [1.0, None]}).replace_schema_metadata(
        {"pool": "x"}
    )
    folder.write_table(shard_name(1), table)
    folder.write_table(shard_name(0), table.slice(1))
    assert [name for name, _ in folder.tables()] == [shard_name(0), shard_name(1)]
    assert folder.read_table(shard_name(1)).equals(table, check_metadata=True)
    assert folder.read_table(shard_name(1), ["score"]).column_names == ["score"]
    assert folder.num_rows(shard_name(1)) == 2


def test_a_local_folder_is_uploaded_in_place_of_what_was_there_and_comes_back(
    folder: Folder, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "top.txt").write_text("top")
    (source / "sub" / "new.txt").write_text("new")
    (folder / "model").write_text("old.txt", "old")
    (folder / "model").upload(source)
    assert (folder / "model").names() == ["sub", "top.txt"]
    got = (folder / "model").download(tmp_path / "copy")
    assert (got / "sub" / "new.txt").read_text() == "new"
    assert sorted(path.name for path in got.iterdir()) == ["sub", "top.txt"]


def test_a_write_is_one_version_of_one_object(folder: Folder, s3: Any) -> None:
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for text in ("first", "second"):
        folder.write_text("a.txt", text)
    versions = s3.list_object_versions(Bucket=BUCKET)
    assert [one["Key"] for one in versions["Versions"]] == ["runs/x/a.txt"] * 2
    assert "DeleteMarkers" not in versions


def test_what_others_write_is_seen_at_once(folder: Folder, s3: Any, tmp_path: Path) -> None:
    folder.write_text("a.txt", "short")
    assert folder.names() == ["a.txt"]
    s3.put_object(Bucket=BUCKET, Key="runs/x/a.txt", Body=b"a longer text")
    s3.put_object(Bucket=BUCKET, Key="runs/x/sub/b.txt", Body=b"b")
    assert folder.read_text("a.txt") == "a longer text"
    assert folder.names() == ["a.txt", "sub"]
    assert (folder / "sub").names() == ["b.txt"]
    s3.put_object(Bucket=BUCKET, Key="runs/x/sub/c.txt", Body=b"c")
    got = (folder / "sub").download(tmp_path / "copy")
    assert sorted(path.name for path in got.iterdir()) == ["b.txt", "c.txt"]
    s3.put_object(Bucket=BUCKET, Key="runs/x/sub/d.txt", Body=b"d")
    (folder / "sub").remove()
    assert "sub" not in folder.names()
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1


def test_of_concurrent_writers_one_wins_whole(folder: Folder) -> None:
    texts = [str(number) * 200_000 for number in range(8)]
    with ThreadPoolExecutor(9) as pool:
        writing = [
            pool.submit(pickle.loads(pickle.dumps(folder)).write_text, "a.txt", text)
            for text in texts
        ]
        writing[0].result()
        seen = [folder.read_text("a.txt") for _ in range(10)]
        for one in writing:
            one.result()
    assert set(seen) <= set(texts)
    assert folder.read_text("a.txt") in texts
    assert folder.names() == ["a.txt"]


def test_a_bucket_that_is_not_there_is_refused_and_not_made(s3: Any) -> None:
    missing = Folder("s3://typo/run")
    with pytest.raises(ConfigError, match=r"Cannot write to s3://typo/run.*Set `run`"):
        missing.write_text("a.txt", "x")
    assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == [BUCKET]


def test_no_credentials_are_told_with_the_variables(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    S3FileSystem.clear_instance_cache()
    folder = Folder("s3://bucket/run")
    for act in (folder.exists, folder.names, lambda: folder.write_text("a", "b")):
        with pytest.raises(ConfigError, match=r"locate credentials.*AWS_ACCESS_KEY_ID"):
            act()
    S3FileSystem.clear_instance_cache()


def test_only_the_parts_of_a_shard_are_listed_and_a_console_s_folder_is_empty(
    folder: Folder, s3: Any
) -> None:
    s3.put_object(Bucket=BUCKET, Key="runs/x/", Body=b"")
    assert folder.names() == []
    for name in ("shard-000001.0001-x.parquet", "shard-000010.0001-x.parquet"):
        folder.write_text(name, "x")
    assert folder.names(".parquet", "shard-000001.") == ["shard-000001.0001-x.parquet"]
    assert folder.names(".parquet", "shard-000002.") == []


def test_a_bucket_that_holds_something_and_no_run_is_refused(
    s3: Any, make_recipe: Callable[..., Recipe], quiet: Console
) -> None:
    s3.put_object(Bucket=BUCKET, Key="mine/dataset/precious.parquet", Body=b"x")
    for run in (f"s3://{BUCKET}", f"s3://{BUCKET}/mine", f"s3a://{BUCKET}/mine/"):
        with pytest.raises(ConfigError, match="is not empty and holds no run"):
            run_recipe(make_recipe({"run": run}), quiet, until="prompts")
    inside = {"run": f"s3://{BUCKET}/run", "router.extend": f"s3a://{BUCKET}/x/../run/router"}
    with pytest.raises(ConfigError, match=r"router\.extend is s3a://"):
        run_recipe(make_recipe(inside), quiet, until="prompts")
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1


def test_runs_that_answer_the_same_prompts_at_once_on_s3_see_the_same(
    s3: Any, make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, quiet: Console
) -> None:
    store = {"responses.store": f"s3://{BUCKET}/store", "prompts.shard_rows": 12}
    recipes = [make_recipe(store | {"run": f"s3://{BUCKET}/runs/{name}"}) for name in "abc"]
    for recipe in recipes:
        run_recipe(recipe, quiet, until="prompts")
    here, together = threading.local(), threading.Barrier(3)

    def sampled(self: ScriptedEngine, requests: list[Request]) -> list[Completion]:
        together.wait(timeout=60)
        return [Completion(f"run {here.number}", "stop", 1, 1) for _ in requests]

    def collect(number: int) -> None:
        here.number = number
        Collect(recipes[number])({"shard": shard_name(0)})

    monkeypatch.setattr(ScriptedEngine, "generate", sampled)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(collect, range(3)))
    for teacher in recipes[0].teachers:
        folders = [run_of(recipe).responses(teacher) for recipe in recipes]
        assert len(folders[0].names()) == 3  # what each has paid for is there
        views = [existing(folder, shard_name(0), RESPONSES) for folder in folders]
        assert views[0].num_rows == 12
        assert views[0].equals(views[1])
        assert views[0].equals(views[2])


@pytest.mark.timeout(1800)
def test_a_run_on_s3_comes_to_the_same_as_a_local_one(
    s3: Any,
    finished: tuple[Recipe, RunLayout],
    carry_out: Callable[..., RunLayout],
    quiet: Console,
    tmp_path: Path,
) -> None:
    local_recipe, local_run = finished
    s3.upload_file(local_recipe.prompts.path, BUCKET, "prompts.jsonl")
    prompts = local_recipe.prompts.model_copy(update={"path": f"s3://{BUCKET}/prompts.jsonl"})
    recipe = local_recipe.model_copy(
        update={"run": f"s3://{BUCKET}/runs/whole", "prompts": prompts}
    )
    run = carry_out(recipe)
    assert all(planned.is_done for planned in planned_steps(recipe, run_of(recipe)))
    assert write_report(recipe, run, quiet).startswith("s3://")

    write_report(local_recipe, local_run, quiet)
    ours, theirs = run.root.read_json("report.json"), local_run.root.read_json("report.json")
    for part in ("prompts", "reward", "router", "allocation", "student"):
        assert json.dumps(ours[part]) == json.dumps(theirs[part]), part
    data = run.dataset / "data"
    assert data.names(".parquet") == (local_run.dataset / "data").names(".parquet")
    for name, table in data.tables():
        assert table.equals((local_run.dataset / "data").read_table(name))
    assert "<svg" in run.root.read_text("report.html")
