"""The report always appears: of runs that lack a table or a record, or hold one that is broken."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from persyn_ray.pipeline.results.report import write_report
from persyn_ray.pipeline.results.run import gather
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report.card import card
from persyn_ray.report.content import complete, to_json
from persyn_ray.report.html import NOT_MEASURED, render
from persyn_ray.report.text import console
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, run_of

Finished = tuple[Recipe, RunLayout]
Damage = Callable[[Path], None]


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"\x00\xff{ no file of any kind \x1b[31m")


def without_rows(path: Path) -> None:
    """The same table without rows; a record without what was found."""
    if path.suffix == ".parquet":
        folder = Folder(str(path.parent))
        folder.write_table(path.name, folder.read_table(path.name).slice(0, 0))
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"result": {}}))


def nulled(path: Path) -> None:
    """The same table with every value null; a file whose every value is null."""
    if path.suffix == ".parquet":
        folder = Folder(str(path.parent))
        table = folder.read_table(path.name)
        kinds = [pa.nulls(table.num_rows, field.type) for field in table.schema]
        folder.write_table(path.name, pa.table(kinds, names=table.column_names))
    else:
        path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()))))


DAMAGES: tuple[Damage, ...] = (remove, empty, garble, without_rows, nulled)


def files_of(root: Path) -> Iterator[Path]:
    """What the report reads: records, tables and the router's fit, one shard of each table."""
    yield from sorted((root / "records").glob("*.json"))
    yield root / "router" / "fit.json"
    for folder in sorted({path.parent for path in (root / "tables").rglob("*.parquet")}):
        yield min(folder.glob("*.parquet"))


def everything(content: dict[str, Any]) -> dict[str, str]:
    """All forms of the report."""
    screen = Console(width=200, force_terminal=False)
    with screen.capture() as capture:
        screen.print(console(content))
    return {
        "json": to_json(content),
        "page": render(content),
        "card": card(content, {"train": "*.parquet"}),
        "terminal": capture.get(),
    }


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Finished:
    recipe, run = finished
    shutil.copytree(run.root.local_path, tmp_path / "copy")
    recipe = recipe.model_copy(update={"run": str(tmp_path / "copy")})
    return recipe, run_of(recipe)


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_file_is_damaged_the_report_appears_and_says_so(
    copy: Finished, damage: Damage
) -> None:
    recipe, run = copy
    root = run.root.local_path
    whole = gather(recipe, run, {})
    for path in files_of(root):
        before = path.read_bytes()
        damage(path)
        content = gather(recipe, run_of(recipe), {})
        path.write_bytes(before)
        name = str(path.relative_to(root))
        assert set(complete(content)) == set(complete(whole)), name
        if damage in (empty, garble):
            assert content["problems"], name
        if damage is remove and "forecast" not in name:
            assert content["problems"] or content != whole, name


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("records/rewards.json", remove),
        ("records/*.json", garble),
        ("records/*.json", nulled),
        ("router/fit.json", remove),
        ("tables/**/*.parquet", remove),
        ("tables/**/*.parquet", nulled),
        ("tables/logits/*.parquet", garble),
        ("tables/prompts/*.parquet", remove),
    ],
)
def test_every_form_of_the_report_names_what_is_missing(
    copy: Finished, pattern: str, damage: Damage
) -> None:
    recipe, run = copy
    for path in run.root.local_path.glob(pattern):
        damage(path)
    content = gather(recipe, run_of(recipe), {})
    assert content["problems"]
    forms = everything(content)
    for name, form in forms.items():
        for part in content["problems"]:
            assert part in form, name
    assert "Could not be made" in forms["page"] or "Not measured in this run" in forms["page"]


def test_a_part_that_fails_says_why_in_its_place_and_leaves_the_others(
    copy: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run = copy
    for shard in run.rewards.names():  # nobody's held-out answer has a reward
        table = run.rewards.read_table(shard)
        nothing = pa.array([[None] * 3] * table.num_rows, pa.list_(pa.float64(), 3))
        prompts = run.prompts.read_table(shard)
        if set(prompts["split"].to_pylist()) == {"heldout"}:
            place = table.schema.get_field_index("rewards")
            changed = table.set_column(place, table.schema.field("rewards"), nothing)
            run.rewards.write_table(shard, changed)
    content = gather(recipe, run, {})
    assert "cut, failed or has no score" in content["problems"]["router.hedging"]
    assert content["router"]["hit_at_1"]["num"] == 0
    assert content["reward"]["teachers"]["a"]["mean_reward"]["value"] is not None
    page = render(content)
    assert "Could not be made: No routed reward is known" in page
    assert NOT_MEASURED["hedging"] not in page
    assert write_report(recipe, run, Console(quiet=True)).endswith("report.html")


@pytest.mark.parametrize("until", ["prompts", "collect", "score", "rewards", "router", "route"])
def test_a_run_that_stopped_anywhere_has_a_report(
    copy: Finished, finished: Finished, until: str
) -> None:
    recipe, run = copy
    names = ["prompts", "collect", "score", "rewards", "router", "route", "synthesize"]
    for later in [*names[names.index(until) + 1 :], "finetune", "evaluate"]:
        run.records.remove(f"{later}.json")
    write_report(recipe, run_of(recipe), Console(quiet=True))
    content = run.root.read_json("report.json")
    assert content["problems"] == {}
    assert content["prompts"]["num_parallel"] == 12
    assert "Not measured in this run" in run.root.read_text("report.html")
