"""Nothing of a user is deleted: a run writes into its own folder, and removes what it has made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from rich.console import Console

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline import load_prompts
from persyn_ray.pipeline.compare import compare
from persyn_ray.pipeline.integrity.ownership import MARKER
from persyn_ray.pipeline.plan.plan import plan_run
from persyn_ray.pipeline.runner import run_recipe
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage import run_lock
from persyn_ray.storage.layout import run_of

Make = Callable[..., Recipe]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "dataset/mine.parquet", "tables/prompts/mine.csv", "recipe.json", "records/x"],
)
def test_a_folder_that_holds_something_and_no_run_is_refused_untouched(
    make_recipe: Make, quiet: Console, tmp_path: Path, name: str
) -> None:
    recipe = make_recipe()
    (tmp_path / "run" / name).parent.mkdir(parents=True)
    (tmp_path / "run" / name).write_text("precious")
    before = everything(tmp_path)
    for act in (
        lambda: run_recipe(recipe, quiet, until="prompts"),
        lambda: run_recipe(recipe, quiet, start="prompts", until="prompts"),
        lambda: compare(recipe, quiet, ["random"], 1),
        lambda: plan_run(recipe),
    ):
        with pytest.raises(ConfigError, match=r"is not empty and holds no run: .*Set `run` to"):
            act()
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", [None, "lost+found", ".gitkeep"])
def test_an_empty_folder_is_taken_and_marked(
    make_recipe: Make, quiet: Console, tmp_path: Path, name: str | None
) -> None:
    (tmp_path / "run").mkdir()
    if name is not None:
        (tmp_path / "run" / name).touch()
    run = run_recipe(make_recipe(), quiet, until="prompts")
    assert run.root.exists(MARKER)
    run_recipe(make_recipe(), quiet, start="prompts", until="prompts")


def test_a_run_that_died_right_after_its_mark_goes_on(
    make_recipe: Make, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCH_SECONDS", "END_SECONDS", "CACHE_SECONDS", "FILL_SECONDS"):
        monkeypatch.setattr(run_lock, name, 0.1)
    recipe = make_recipe()
    run = run_of(recipe)
    run.root.write_json(MARKER, {})
    run.attempts.write_bytes("000001.json", b"{}")
    run_recipe(recipe, quiet, until="prompts")


def test_a_remote_folder_that_holds_something_is_refused(make_recipe: Make, quiet: Console) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/owning/dataset/mine.txt", b"precious")
    with pytest.raises(ConfigError, match=r"memory://owning is not empty and holds no run: datas"):
        run_recipe(make_recipe({"run": "memory://owning"}), quiet, until="prompts")
    assert fs.cat_file("/owning/dataset/mine.txt") == b"precious"
    run = run_recipe(make_recipe({"run": "memory://owning/run"}), quiet, until="prompts")
    assert run.root.exists(MARKER)


@pytest.mark.parametrize(
    ("place", "until"),
    [("tables/prompts", "prompts"), ("students", None), ("dataset", None), ("router", None)],
)
def test_what_a_user_put_into_a_run_before_its_step_is_not_removed(
    make_recipe: Make, quiet: Console, place: str, until: str | None
) -> None:
    recipe = make_recipe()
    run = run_of(recipe)
    if place != "tables/prompts":
        run_recipe(recipe, quiet, until="prompts")
    run.root.write_json(MARKER, {})
    (run.root / place).write_text("mine.txt", "precious")
    with pytest.raises(ConfigError, match=f"{place} is not of this run: it was there before"):
        run_recipe(recipe, quiet, until=until)
    assert (run.root / place).read_text("mine.txt") == "precious"


def test_what_steps_have_made_goes_also_when_they_were_outdated(
    make_recipe: Make, record_step: Callable[..., Any], quiet: Console
) -> None:
    recipe = make_recipe()
    run = run_recipe(recipe, quiet, until="prompts")
    for step in ("collect", "score", "rewards"):
        record_step(recipe, step)
    run.rewards.write_text("shard.txt", "made by an earlier step rewards")
    changed = make_recipe({"prompts.seed": 3})
    run_recipe(changed, quiet, overrides=("prompts.seed=3",), until="prompts")
    from persyn_ray.pipeline.integrity.ownership import require_made
    from persyn_ray.pipeline.steps import STEPS

    require_made(run, STEPS)


def test_a_link_out_of_the_run_is_not_followed(
    make_recipe: Make, quiet: Console, tmp_path: Path
) -> None:
    recipe = make_recipe()
    run = run_recipe(recipe, quiet, until="prompts")
    mine = tmp_path / "mine"
    for name in ("prompts", "dead_letters"):
        (mine / name).mkdir(parents=True)
        (mine / name / "precious.txt").write_text("precious")
    run.root.remove("tables")
    (tmp_path / "run" / "tables").symlink_to(mine)
    before = everything(mine)
    with pytest.raises(ConfigError, match=r"leads out of the run .*Remove the link"):
        run_recipe(recipe, quiet, start="prompts", until="prompts")
    with pytest.raises(ConfigError, match="leads out of the run"):
        run.remove(run.prompts)
    run.root.remove("tables")
    assert everything(mine) == before
    assert not (tmp_path / "run" / "tables").exists()


def test_a_run_reached_through_a_link_goes_on(
    make_recipe: Make, quiet: Console, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    recipe = make_recipe({"run": str(tmp_path / "link" / "run")})
    run_recipe(recipe, quiet, until="prompts")
    run_recipe(recipe, quiet, start="prompts", until="prompts")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("router.extend", "{run}/router"),
        ("router.extend", "{run}/router/"),
        ("router.extend", "{run}/../run/./router"),
        ("router.extend", "{link}/router"),
        ("router.extend", "file://{run}/router"),
        ("router.backbone.name", "{run}/router"),
        ("student.name", "{run}/students/persyn"),
        ("student.name", "{run}/checkpoints/x"),
        ("prompts.path", "{run}/dataset/data/train-00000.parquet"),
        ("prompts.path", "{run}/dataset/data/*.parquet"),
        ("prompts.path", "{run}/*/data/*.parquet"),
        ("prompts.path", "{run}/../*/*/data/*.parquet"),
        ("prompts.path", ["{run}/../prompts.jsonl", "{run}/tables/prompts/shard-000000.parquet"]),
        ("evaluate.path", "{run}/tables/examples/persyn/shard-000000.parquet"),
        ("responses.store", "{run}/dataset"),
        ("responses.store", "{run}/students/store"),
        ("responses.store", "{run}/records"),
        ("ledger", "{run}/records"),
        ("ledger", "{run}/dataset/ledger"),
        (
            "scoring.quality",
            {"kind": "recorded", "path": "{run}/tables/rewards/x.csv", "score_column": "s"},
        ),
        ("scoring.quality", {"kind": "reward_model", "model": {"name": "{run}/students/x"}}),
        (
            "teachers",
            [{"name": "a", "engine": {"kind": "recorded", "path": "{run}/dataset/a.csv"}}],
        ),
        (
            "teachers",
            [
                {
                    "name": "a",
                    "engine": {
                        "kind": "openai",
                        "model": "m",
                        "base_url": "http://localhost:1/v1",
                        "api_key_file": "{run}/records/key",
                    },
                }
            ],
        ),
        ("serving.keys_file", "{run}/attempts/keys"),
    ],
)
def test_an_input_that_a_step_would_remove_is_refused_before_anything(
    make_recipe: Make, quiet: Console, tmp_path: Path, setting: str, value: Any
) -> None:
    run_folder = tmp_path / "run"
    (tmp_path / "link").symlink_to(run_folder)
    run_recipe(make_recipe(), quiet, until="prompts")
    run = run_of(make_recipe())
    run.dataset.write_text("data/train-00000.parquet", "precious")
    run.router.write_text("config.json", "{}")
    before = everything(tmp_path)

    def filled(given: Any) -> Any:
        if isinstance(given, dict):
            return {key: filled(below) for key, below in given.items()}
        if isinstance(given, list):
            return [filled(below) for below in given]
        return given.format(run=run_folder, link=tmp_path / "link")

    recipe = make_recipe({setting: filled(value)})
    for act in (
        lambda: run_recipe(recipe, quiet, start="prompts", until="prompts"),
        lambda: plan_run(recipe),
    ):
        with pytest.raises(ConfigError, match="reads from what its own run writes") as refusal:
            act()
        assert f"{setting}" in str(refusal.value)
        assert "the run removes" in str(refusal.value)
    assert everything(tmp_path) == before


def test_a_relative_input_is_found_as_well(
    make_recipe: Make, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for run, router in (("run", "run/router"), (".", "router"), ("~/run", "run/router")):
        monkeypatch.setenv("HOME", str(tmp_path))
        recipe = make_recipe({"run": run, "router.extend": router})
        run_of(recipe).root.write_json(MARKER, {})
        with pytest.raises(ConfigError, match=r"router\.extend is "):
            run_recipe(recipe, quiet, until="prompts")


def test_a_remote_input_is_found_however_it_is_written(make_recipe: Make, quiet: Console) -> None:
    for router in (
        "memory://a/run/router",
        "memory://a//run/x/../router/",
        "memory:///a/run/router",
    ):
        recipe = make_recipe({"run": "memory://a/run", "router.extend": router})
        with pytest.raises(ConfigError, match=r"router\.extend is "):
            run_recipe(recipe, quiet, until="prompts")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("router.extend", "{run}-2/router"),
        ("router.extend", "{run}/../other/router"),
        ("responses.store", "{run}/tables/responses"),
        ("responses.store", "{run}/.."),
        ("prompts.path", "{run}/prompts.jsonl"),
        ("prompts.template", "{run}/router or not: {{prompt}}"),
        ("student.name", "org/router"),
    ],
)
def test_inputs_that_no_step_removes_are_taken(
    make_recipe: Make,
    quiet: Console,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    value: str,
) -> None:
    monkeypatch.setattr(load_prompts, "readers_of", lambda *_: ())  # no model is there
    run = run_recipe(make_recipe(), quiet, until="prompts")
    run.root.write_text("prompts.jsonl", (tmp_path / "prompts.jsonl").read_text())
    recipe = make_recipe({setting: value.format(run=tmp_path / "run")})
    run_recipe(recipe, quiet, start="prompts", until="prompts")
    assert run.root.exists("prompts.jsonl")


def test_a_run_within_what_another_run_removes_is_refused(
    make_recipe: Make, quiet: Console
) -> None:
    outer = run_recipe(make_recipe(), quiet, until="prompts")
    inner = make_recipe({"run": f"{outer.root.address}/students/inner"})
    with pytest.raises(ConfigError, match=r"`run` is .*/students/inner, in .*/run/students"):
        run_recipe(inner, quiet, until="prompts")
    store = make_recipe(
        {
            "run": f"{outer.root.address}-2",
            "responses.store": f"{outer.root.address}/router/store",
        }
    )
    with pytest.raises(ConfigError, match=r"`responses\.store` is .*/router/store, in .*/router"):
        run_recipe(store, quiet, until="prompts")
    ledger = {"run": f"{outer.root.address}-3", "ledger": f"{outer.root.address}/dataset/ledger"}
    with pytest.raises(ConfigError, match=r"`ledger` is .*/dataset/ledger, in .*/dataset"):
        run_recipe(make_recipe(ledger), quiet, until="prompts")
    apart = make_recipe({"run": f"{outer.root.address}/seeds/7"})
    run_recipe(apart, quiet, until="prompts")
