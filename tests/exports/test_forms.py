"""Every form's files, read back by plain readers: each row and each text as it went in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from persyn_ray.exports.form import Facts
from persyn_ray.exports.forms import FORMS, form_named
from persyn_ray.exports.llamafactory import NO_TURNS
from persyn_ray.exports.preferences import Pairs
from persyn_ray.exports.writing import write_jsonl, write_parquet
from persyn_ray.recipe.router import LoraConfig
from persyn_ray.recipe.training import FinetuneConfig
from persyn_ray.storage.schemas import ROUTED

from .rows import HOSTILE, TableRows, routed, turn

Row = dict[str, Any]
ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


def standard(turns: list[Row]) -> list[Row]:
    """ShareGPT turns as messages."""
    return [turn(ROLES[one["from"]], one["value"]) for one in turns]


def plain(messages: list[Row]) -> list[Row]:
    return [turn(one["role"], one["content"]) for one in messages]


READ: dict[str, Callable[[Row], Any]] = {
    "trl": lambda row: row["prompt"] + row["completion"],
    "trl-messages": lambda row: row["messages"],
    "llamafactory": lambda row: standard(row["conversations"]),
    "axolotl": lambda row: plain(row["messages"]),
    "ms-swift": lambda row: row["messages"],
    "torchtune": lambda row: row["messages"],
    "nemo-rl": lambda row: row["messages"],
    "jsonl": lambda row: row["messages"],
    "trl-dpo": lambda row: (row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]),
    "llamafactory-dpo": lambda row: (
        standard([*row["conversations"], row["chosen"]]),
        standard([*row["conversations"], row["rejected"]]),
    ),
    "axolotl-dpo": lambda row: (
        [*row["messages"], row["chosen"]],
        [*row["messages"], row["rejected"]],
    ),
    "ms-swift-dpo": lambda row: (
        row["messages"],
        [*row["messages"][:-1], turn("assistant", row["rejected_response"])],
    ),
    "torchtune-dpo": lambda row: (row["chosen"], row["rejected"]),
    "nemo-rl-dpo": lambda row: tuple(
        row["context"] + ranked["completion"] for ranked in row["completions"]
    ),
    "trl-kto": lambda row: (row["prompt"] + row["completion"], row["label"]),
    "llamafactory-kto": lambda row: (standard(row["conversations"]), row["label"]),
    "ms-swift-kto": lambda row: (row["messages"], row["label"]),
}
"""What a row of each form says, as conversations."""


def rows_in(folder: Path) -> list[Row]:
    if (folder / "train.parquet").exists():
        return pq.read_table(folder / "train.parquet").to_pylist()
    lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()  # at U+2028 as well
    return [json.loads(line) for line in lines]


def expected(name: str, rows: TableRows) -> list[Any]:
    if name.endswith("-dpo"):
        return [([*p.prompt, p.chosen], [*p.prompt, p.rejected]) for p in Pairs(rows)]
    if name.endswith("-kto"):
        return [
            ([*pair.prompt, response], label)
            for pair in Pairs(rows)
            for response, label in ((pair.chosen, True), (pair.rejected, False))
        ]
    return [row["messages"] for row in rows.of("train")]


@pytest.mark.parametrize("name", sorted(READ))
def test_every_row_and_text_comes_back(
    name: str, hostile_rows: TableRows, facts: Facts, tmp_path: Path
) -> None:
    written = form_named(name).write(hostile_rows, tmp_path, facts)
    rows = rows_in(tmp_path)
    assert [READ[name](row) for row in rows] == expected(name, hostile_rows)
    assert written.num_rows == len(rows) > 10
    assert set(written.files) == {path.name for path in tmp_path.iterdir()}
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(row.get("teacher") or row["chosen_teacher"] for row in rows)
    assert written.how


def test_no_form_is_left_out_of_the_round_trip() -> None:
    elsewhere = ("persyn_ray.exports.on_policy", "persyn_ray.exports.routing")
    on_policy = {form.name for form in FORMS if form.write.__module__.startswith(elsewhere)}
    assert {form.name for form in FORMS} - on_policy - set(READ) == {"datasets"}


def test_datasets_on_disk_keep_every_column(
    hostile_rows: TableRows,
    facts: Facts,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    datasets = pytest.importorskip("datasets")
    written = form_named("datasets").write(hostile_rows, tmp_path, facts)
    loaded = datasets.load_from_disk(str(tmp_path / "dataset"))
    assert set(loaded) == {"train", "parallel"}  # these rows hold no heldout prompts
    for split in loaded:
        assert loaded[split].to_list() == hostile_rows.of(split)
        assert loaded[split].column_names == ROUTED.names
    assert written.num_rows == sum(map(len, loaded.values()))
    assert all((tmp_path / name).is_file() for name in written.files)
    record_property("accepted", "datasets")


def test_margins_are_differences_of_rewards(
    hostile_rows: TableRows, facts: Facts, tmp_path: Path
) -> None:
    form_named("trl-dpo").write(hostile_rows, tmp_path, facts)
    for row in rows_in(tmp_path):
        assert row["margin"] == row["chosen_reward"] - row["rejected_reward"] > 0
        rewards = [
            one["reward"]
            for one in hostile_rows.of("parallel")
            if one["prompt_id"] == row["id"] and one["reward"] is not None
        ]
        assert row["chosen_reward"] == max(rewards)
        assert row["rejected_reward"] == min(rewards)


def test_llamafactory_counts_conversations_that_its_loader_would_skip(
    facts: Facts, tmp_path: Path
) -> None:
    shapes = [
        ["user", "assistant"],
        ["system", "user", "assistant"],
        ["user", "user", "assistant"],
        ["assistant", "user", "assistant"],
        ["user", "system", "assistant"],
    ]
    rows = [
        routed(place, "train", "a", messages=[turn(role, "x") for role in shape])
        for place, shape in enumerate(shapes)
    ]
    written = form_named("llamafactory").write(TableRows(tuple(rows)), tmp_path, facts)
    assert (written.num_rows, written.left_out) == (2, {NO_TURNS: 3})


def test_axolotl_trains_on_the_teachers_response_alone(
    hostile_rows: TableRows, facts: Facts, tmp_path: Path
) -> None:
    form_named("axolotl").write(hostile_rows, tmp_path, facts)
    for row in rows_in(tmp_path):
        trained = [turn["train"] for turn in row["messages"]]
        assert trained == [False] * (len(trained) - 1) + [True]


@pytest.mark.parametrize("name", ["llamafactory", "axolotl", "llamafactory-dpo", "axolotl-dpo"])
def test_settings_are_the_recipes(
    name: str, hostile_rows: TableRows, facts: Facts, tmp_path: Path
) -> None:
    finetune = FinetuneConfig(  # pyright: ignore[reportCallIssue]
        learning_rate=3e-4,
        batch_size=24,
        micro_batch_size=6,
        max_length=512,
        seed=7,
        max_steps=9,
        lora=LoraConfig(rank=4, lora_alpha=8),  # pyright: ignore[reportCallIssue]
    )
    changed = Facts(**{**vars(facts), "finetune": finetune})
    form_named(name).write(hostile_rows, tmp_path, changed)
    found = yaml.safe_load((tmp_path / "train.yaml").read_text())
    values = list(found.values())
    for value in (3e-4, 4, 6, 512, 7, 9, 8, "org/student"):
        assert value in values, value
    assert isinstance(found["learning_rate"], float)


def test_jsonl_stays_ascii_and_refuses_what_json_cannot_hold(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in HOSTILE])
    data = (tmp_path / "a.jsonl").read_bytes()
    assert data.isascii()
    assert data.count(b"\n") == len(HOSTILE)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_jsonl(tmp_path / "b.jsonl", [{"reward": float("nan")}])


def test_memory_stays_with_one_group_of_rows(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("text", pa.string())])
    before = pa.total_allocated_bytes()
    peak = 0

    def rows():
        nonlocal peak
        for number in range(200_000):
            if number % 20_000 == 0:
                peak = max(peak, pa.total_allocated_bytes() - before)
            yield {"text": f"{number}" * 20}

    assert write_parquet(tmp_path / "x.parquet", rows(), schema) == 200_000
    assert peak < 16 << 20
    assert pq.read_metadata(tmp_path / "x.parquet").num_rows == 200_000
