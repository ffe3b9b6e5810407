"""Forms over unusual runs: without rows, with one teacher, with long conversations in pairs."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from persyn_ray.errors import ConfigError
from persyn_ray.exports.export import Exported, export
from persyn_ray.exports.form import Facts
from persyn_ray.exports.forms import FORMS, form_named
from persyn_ray.storage.folder import Folder

from .rows import HOSTILE, TableRows, routed, turn
from .test_forms import READ, rows_in

PAIRED = sorted(name for name in READ if name.endswith(("-dpo", "-kto")))
ON_POLICY = sorted(form.name for form in FORMS if "on_policy" in form.write.__module__)
EMPTY = TableRows(())


def put(form: str, rows: TableRows, facts: Facts, where: Path) -> Exported:
    return export(form_named(form), rows, facts, Folder(str(where)))


@pytest.mark.parametrize("form", sorted(READ))
def test_a_run_without_rows_gives_files_that_can_be_read(
    form: str, hostile_rows: TableRows, facts: Facts, tmp_path: Path
) -> None:
    done = put(form, EMPTY, facts, tmp_path / "empty")
    put(form, hostile_rows, facts, tmp_path / "full")
    assert rows_in(tmp_path / "empty") == []
    assert done.written.num_rows == 0
    if (tmp_path / "full" / "train.parquet").exists():
        schemas = [pq.read_schema(tmp_path / one / "train.parquet") for one in ("empty", "full")]
        assert schemas[0].equals(schemas[1])


@pytest.mark.parametrize("form", ON_POLICY)
def test_a_run_without_teachers_for_its_prompts_is_told_so(
    form: str, facts: Facts, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="nothing to distil"):
        put(form, EMPTY, facts, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("form", PAIRED)
def test_one_teacher_makes_no_pairs_and_the_count_is_told(
    form: str, facts: Facts, tmp_path: Path
) -> None:
    rows = TableRows(tuple(routed(number, "parallel", "a", reward=0.5) for number in range(1200)))
    done = put(form, rows, facts, tmp_path)
    assert rows_in(tmp_path) == []
    told = "1,200 rows left out: prompts with fewer than two responses that have a reward."
    assert told in done.remarks
    assert told in (tmp_path / "README.md").read_text()
    assert 1200 in json.loads((tmp_path / "persyn-export.json").read_text())["left_out"].values()


@pytest.mark.parametrize("form", PAIRED)
def test_pairs_keep_system_prompts_and_earlier_turns(
    form: str, facts: Facts, tmp_path: Path
) -> None:
    prompts = {
        number: [
            turn("system", text),
            turn("user", "first"),
            turn("assistant", HOSTILE[-number]),
            turn("user", text),
        ]
        for number, text in enumerate(HOSTILE)
    }
    sides = {"a": ("worst", -1.0), "b": ("between", 0.0), "c": ("best", 2.5)}
    rows = [
        routed(
            number,
            "parallel",
            name,
            messages=[*said, turn("assistant", f"{word} {HOSTILE[number]}")],
            reward=reward,
        )
        for number, said in prompts.items()
        for name, (word, reward) in sides.items()
    ]
    put(form, TableRows(tuple(rows)), facts, tmp_path)
    best, worst = (
        [
            [*said, turn("assistant", f"{word} {HOSTILE[number]}")]
            for number, said in prompts.items()
        ]
        for word in ("best", "worst")
    )
    told = [READ[form](row) for row in rows_in(tmp_path)]
    if form.endswith("-dpo"):
        assert told == list(zip(best, worst, strict=True))
        assert {row["margin"] for row in rows_in(tmp_path)} == {3.5}
    else:
        assert [said for said, label in told if label] == best
        assert [said for said, label in told if not label] == worst


def test_rewards_that_are_all_equal_make_no_pair_whatever_their_sign(
    facts: Facts, tmp_path: Path
) -> None:
    rows = [
        routed(place, "parallel", name, reward=reward, messages=[turn("assistant", name)])
        for place, reward in enumerate((-2.0, 0.0, 1e-300))
        for name in ("a", "b", "c")
    ]
    rows += [routed(9, "parallel", name, reward=zero) for name, zero in (("a", 0.0), ("b", -0.0))]
    done = put("trl-dpo", TableRows(tuple(rows)), facts, tmp_path)
    assert sum(done.written.left_out.values()) == 4
    assert rows_in(tmp_path) == []


def test_two_rewards_that_hardly_differ_make_a_pair(facts: Facts, tmp_path: Path) -> None:
    rows = [
        routed(1, "parallel", name, reward=reward, messages=[turn("user", "q"), turn("x", name)])
        for name, reward in (("a", 0.1 + 0.2), ("b", 0.3), ("c", None))
    ]
    put("trl-dpo", TableRows(tuple(rows)), facts, tmp_path)
    (row,) = rows_in(tmp_path)
    assert (row["chosen_teacher"], row["rejected_teacher"]) == ("a", "b")
    assert row["margin"] > 0


def test_hostile_labels_come_back_from_the_table_for_spreadsheets(
    facts: Facts, tmp_path: Path
) -> None:
    texts = [text for text in HOSTILE if "\0" not in text and len(text) < 1000] + [
        "a\rb",
        "\r",
        "\n",
    ]
    rows = [routed(place, "assigned", "a", task=text) for place, text in enumerate(texts)]
    put("assignment", TableRows(tuple(rows)), facts, tmp_path)
    with (tmp_path / "assignment.csv").open(encoding="utf-8", newline="") as file:
        told = list(csv.DictReader(file))
    assert [row["task"] for row in told] == texts
    assert [row["prompt_id"] for row in told] == [f"p{place}" for place in range(len(texts))]
    table = pq.read_table(tmp_path / "assignment.parquet")
    assert table["task"].to_pylist() == texts


def test_a_retired_teacher_keeps_its_examples(facts: Facts, tmp_path: Path) -> None:
    """Its responses are there and may be trained on, though nobody asks it any more."""
    pool = (facts.teachers[0].model_copy(update={"retired": True}), *facts.teachers[1:])
    rows = TableRows(tuple(routed(place, "train", name) for place, name in enumerate("abca")))
    put("trl", rows, replace(facts, teachers=pool), tmp_path)
    assert [row["teacher"] for row in rows_in(tmp_path)] == list("abca")


@pytest.mark.parametrize("form", ["llamafactory", "axolotl", "torchtune", "nemo-rl"])
def test_settings_name_the_file_that_lies_beside_them(
    form: str, hostile_rows: TableRows, facts: Facts, tmp_path: Path
) -> None:
    put(form, hostile_rows, facts, tmp_path)
    (path,) = tmp_path.glob("*.yaml")
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if form == "llamafactory":
        info = json.loads((tmp_path / "dataset_info.json").read_text())
        named = info[settings["dataset"]]["file_name"]
    elif form == "axolotl":
        named = settings["datasets"][0]["path"]
    elif form == "torchtune":
        named = settings["dataset"]["data_files"]
    else:
        named = settings["data"]["train"]["data_path"]
    assert (tmp_path / named).is_file()


def test_a_run_of_hostile_name_does_not_break_its_readme(
    hostile_rows: TableRows, facts: Facts, tmp_path: Path
) -> None:
    told = replace(facts, name="a\n# heading\n```\n'{x}\" \u202e")
    put("trl", hostile_rows, told, tmp_path)
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    first = readme.splitlines()[0]
    assert "heading" in first
    assert facts.fingerprint in first
    assert "\n# heading" not in readme
