"""On-policy forms over prompts without reference or task, and teachers that cannot score."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.exports.export import export
from persyn_ray.exports.form import Facts
from persyn_ray.exports.forms import form_named
from persyn_ray.exports.on_policy.settings import OnPolicySettings
from persyn_ray.storage.folder import Folder

from ..rows import TableRows, routed
from .conftest import teacher

Row = dict[str, Any]
BARE = TableRows(tuple(routed(number, "assigned", "a") for number in range(3)))


def lines(folder: Path) -> list[Row]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def table(folder: Path) -> list[Row]:
    return pq.read_table(folder / "train.parquet").to_pylist()


@pytest.mark.parametrize(
    ("form", "read", "reference", "expected"),
    [
        # verl's reward functions and NeMo Gym's servers take a text, miles and slime also null.
        ("verl", table, lambda row: row["reward_model"]["ground_truth"], ""),
        ("nemo-rl-mopd", lines, lambda row: row["expected_answer"], ""),
        ("miles", lines, lambda row: row["label"], None),
        ("slime", lines, lambda row: row["label"], None),
    ],
)
def test_a_prompt_without_a_reference_keeps_its_row(
    form: str,
    read: Callable[[Path], list[Row]],
    reference: Callable[[Row], str | None],
    expected: str | None,
    routed_facts: Facts,
    tmp_path: Path,
) -> None:
    export(form_named(form), BARE, routed_facts, Folder(str(tmp_path)))
    assert [reference(row) for row in read(tmp_path)] == [expected] * 3


def test_verl_groups_prompts_without_a_task_under_one_name(
    routed_facts: Facts, tmp_path: Path
) -> None:
    rows = TableRows((*BARE.rows, routed(9, "assigned", "a", task="law")))
    export(form_named("verl"), rows, routed_facts, Folder(str(tmp_path)))
    assert [row["data_source"] for row in table(tmp_path)] == ["persyn"] * 3 + ["law"]


def test_only_teachers_with_rows_are_loaded(routed_facts: Facts, tmp_path: Path) -> None:
    """A pool may hold teachers whose models are gone: without rows nobody asks for them."""
    gone = teacher("gone", str(tmp_path / "no such model"))
    facts = replace(routed_facts, teachers=(gone, *routed_facts.teachers))
    done = export(form_named("miles"), BARE, facts, Folder(str(tmp_path / "out")))
    assert (done.written.num_rows, dict(done.written.left_out)) == (3, {})
    assert "gone" not in (tmp_path / "out" / "arguments.sh").read_text()


def test_rows_that_cannot_be_scored_are_refused_where_the_user_says_so(
    routed_facts: Facts, tmp_path: Path
) -> None:
    rows = TableRows((*BARE.rows, routed(9, "assigned", "stranger")))
    strict = OnPolicySettings(other_tokenizers="refuse")
    facts = replace(routed_facts, on_policy=strict)
    with pytest.raises(ConfigError, match="1 rows: teacher stranger has another tokenizer"):
        export(form_named("verl"), rows, facts, Folder(str(tmp_path / "out")))
    assert list((tmp_path / "out").iterdir()) == []
    done = export(form_named("verl"), rows, routed_facts, Folder(str(tmp_path / "out")))
    assert done.written.num_rows == 3
    assert list(done.written.left_out.values()) == [1]
