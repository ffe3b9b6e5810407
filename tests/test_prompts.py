"""Prompts: known by content, split by hash, and no bad row stops a run."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persyn_ray.config import Prompts
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.prompts import UNSPLIT, iter_prompts, load_prompts, prompt_id_of, split_prompts
from persyn_ray.schemas import DEAD_LETTERS, PROMPTS

USER = {"role": "user", "content": "Hi"}


def section(path: Any, **settings: Any) -> Prompts:
    return Prompts.model_validate({"path": str(path)} | settings)


def jsonl(folder: Path, rows: list[Any], name: str = "prompts.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(table: pa.Table) -> list[str]:
    return [messages[-1]["content"] for messages in table["messages"].to_pylist() if messages]


def some_prompts(num: int) -> pa.Table:
    rows = [
        {"prompt_id": f"{index:032x}", "messages": [USER], "source": "s"} for index in range(num)
    ]
    return pa.Table.from_pylist(rows, schema=UNSPLIT)


def test_plain_text_goes_through_template_and_system_prompt(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"question": "1+1?", "answer": 2, "kind": "add"}])
    settings = {
        "column": "question",
        "reference_column": "answer",
        "task_column": "kind",
        "template": "{prompt} Answer in \\boxed{}.",
        "system_prompt": "Be brief.",
    }
    loaded = load_prompts(section(path, **settings))
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1? Answer in \\boxed{}."},
    ]
    assert loaded.table.schema.equals(UNSPLIT)
    assert loaded.dead.schema.equals(DEAD_LETTERS)
    assert loaded.table.to_pylist() == [
        {
            "prompt_id": prompt_id_of(messages),
            "messages": messages,
            "reference": "2",
            "task": "add",
            "source": "prompts.jsonl",
        }
    ]


def test_conversations_are_taken_as_they_are(tmp_path: Path) -> None:
    conversation = [USER, {"role": "assistant", "content": "Hello"}, {**USER, "name": "me"}]
    path = tmp_path / "prompts.parquet"
    pq.write_table(pa.Table.from_pylist([{"messages": conversation}]), path)
    loaded = load_prompts(section(path, column="messages", system_prompt="unused"))
    assert loaded.table["messages"].to_pylist() == [[USER, conversation[1], USER]]


def test_an_id_is_the_content_and_nothing_else() -> None:
    assert prompt_id_of([USER]) == prompt_id_of([{"content": "Hi", "role": "user", "x": "y"}])
    others = [[{**USER, "content": "Hi "}], [{**USER, "role": "system"}], [USER, USER]]
    assert len({prompt_id_of(messages) for messages in [[USER], *others]}) == 4
    # From sha256sum of the canonical text: ids never change between versions.
    assert prompt_id_of([USER]) == "557f6d9586f57ae72d24a7d34f47ed21"


def test_duplicates_are_kept_once_and_counted_across_files(tmp_path: Path) -> None:
    jsonl(tmp_path, [{"prompt": "a", "ref": "1"}, {"prompt": "b", "ref": "2"}], "1.jsonl")
    jsonl(tmp_path, [{"prompt": "b", "ref": "3"}, {"prompt": "c", "ref": "4"}], "2.jsonl")
    loaded = load_prompts(section(tmp_path / "*.jsonl", reference_column="ref"))
    assert texts(loaded.table) == ["a", "b", "c"]
    assert loaded.table["reference"].to_pylist() == ["1", "2", "4"]
    assert loaded.table["source"].to_pylist() == ["1.jsonl", "1.jsonl", "2.jsonl"]
    assert loaded.num_duplicates == 1


def test_rows_that_are_no_prompt_become_dead_letters_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"prompt": "good"},
        {"prompt": ""},
        {"prompt": " \n"},
        {"prompt": None},
        {"other": "x"},
        {"prompt": 7},
        {"prompt": "lone \ud800 surrogate"},
        {"prompt": [{"role": "robot", "content": "Hi"}]},
        {"prompt": [USER, {"role": "assistant", "content": "Hi"}]},
        {"prompt": [{"role": "user", "content": None}]},
        {"prompt": [{"role": "user", "content": " "}]},
        {"prompt": []},
        ["no object"],
        {"prompt": "NUL \x00 and \x1b stay"},
    ]
    path = jsonl(tmp_path, rows)
    with path.open("a") as file:
        file.write("{broken\n")
    loaded = load_prompts(section(path))
    assert texts(loaded.table) == ["good", "NUL \x00 and \x1b stay"]
    assert loaded.dead["reason"].to_pylist() == [
        *["no_text"] * 4,
        "wrong_type",
        "invalid_unicode",
        *["bad_messages"] * 3,
        "no_text",
        "bad_messages",
        *["unreadable_row"] * 2,
    ]
    assert set(loaded.dead["step"].to_pylist()) == {"prompts"}
    assert loaded.dead["detail"][0].as_py().startswith("prompts.jsonl, row 2: ")


def test_a_missing_reference_matters_only_where_one_is_needed(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "ref": "1"}, {"prompt": "b", "ref": " "}, {"prompt": "c"}]
    settings = section(jsonl(tmp_path, rows), reference_column="ref")
    assert load_prompts(settings).table["reference"].to_pylist() == ["1", None, None]
    strict = load_prompts(settings, require_reference=True)
    assert texts(strict.table) == ["a"]
    assert strict.dead["reason"].to_pylist() == ["no_reference"] * 2


def test_references_of_any_type_become_text(tmp_path: Path) -> None:
    values = [72.0, 7.5, 3, True, ["a", "b"], "x ", float("nan"), 10**20]
    rows = [{"prompt": str(index), "ref": value} for index, value in enumerate(values)]
    table = load_prompts(section(jsonl(tmp_path, rows), reference_column="ref")).table
    expected = ["72", "7.5", "3", "True", '["a", "b"]', "x", None, "100000000000000000000"]
    assert table["reference"].to_pylist() == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "/no/such/file.jsonl"}, r"No file at '/no/such/file.jsonl'.*prompts\.path"),
        ({"column": "text"}, r"no column \['text'\]; it has \['prompt'\].*prompts\.column"),
        ({"task_column": "kind"}, r"no column \['kind'\].*prompts\.task_column"),
        ({"template": "Answer:"}, r"prompts\.template is 'Answer:'"),
        ({"path": "hub:./no-such-folder"}, r"data set './no-such-folder'.*prompts\.path"),
    ],
)
def test_what_the_recipe_gets_wrong_is_named(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    path = jsonl(tmp_path, [{"prompt": "a"}])
    with pytest.raises(ConfigError, match=message):
        load_prompts(section(path).model_copy(update=settings))


def test_no_prompt_at_all_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"prompt": ""}, {"prompt": 3}])
    with pytest.raises(DataError, match=r"'prompt': 2 rows were refused \['no_text', 'wrong_type'"):
        load_prompts(section(path))
    path.write_text('{"prompt": "a"}\n')
    table = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), table)
    with pytest.raises(DataError, match="0 rows were refused"):
        load_prompts(section(table))


def test_a_data_set_of_the_hub_kind_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    jsonl(tmp_path / "set", [{"prompt": "a", "other": 1}, {"prompt": None, "other": 2}])
    loaded = load_prompts(section(f"hub:{tmp_path / 'set'}"))
    assert texts(loaded.table) == ["a"]
    assert loaded.table["source"].to_pylist() == [f"hub:{tmp_path / 'set'}"]
    assert loaded.dead.num_rows == 1


def test_a_limit_is_a_seeded_draw_that_ignores_the_order_of_rows(tmp_path: Path) -> None:
    rows = [{"prompt": f"prompt {index}"} for index in range(200)]
    path = jsonl(tmp_path, rows)
    first = set(texts(load_prompts(section(path, limit=50)).table))
    random.Random(0).shuffle(rows)
    jsonl(tmp_path, rows)
    assert set(texts(load_prompts(section(path, limit=50)).table)) == first
    assert set(texts(load_prompts(section(path, limit=50, seed=1)).table)) != first
    assert len(first) == 50
    assert load_prompts(section(path, limit=500)).table.num_rows == 200


def test_another_path_brings_its_own_limit(tmp_path: Path) -> None:
    settings = section(jsonl(tmp_path, [{"prompt": "a"}]), limit=1)
    other = jsonl(tmp_path, [{"prompt": str(index)} for index in range(9)], "other.jsonl")
    assert load_prompts(settings, path=str(other)).table.num_rows == 9
    assert load_prompts(settings, path=(str(other),), limit=4).table.num_rows == 4


def test_chunks_hold_together_what_the_whole_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = jsonl(tmp_path, [{"prompt": str(index % 15)} for index in range(20)])
    whole = load_prompts(section(path))
    monkeypatch.setattr("persyn_ray.prompts.CHUNK_ROWS", 6)
    chunks = list(iter_prompts(section(path)))
    assert [chunk.table.num_rows for chunk in chunks] == [6, 6, 3, 0]
    assert pa.concat_tables([chunk.table for chunk in chunks]).equals(whole.table)
    assert sum(chunk.num_duplicates for chunk in chunks) == whole.num_duplicates == 5


def test_splits_have_their_sizes_come_one_after_another_and_lose_nobody() -> None:
    table = some_prompts(100)
    split = split_prompts(table, num_parallel=20, num_heldout=30, seed=0)
    assert split.schema.equals(PROMPTS)
    expected = ["parallel"] * 20 + ["heldout"] * 30 + ["routed"] * 50
    assert split["split"].to_pylist() == expected
    assert set(split["prompt_id"].to_pylist()) == set(table["prompt_id"].to_pylist())


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    table = some_prompts(100)
    split = split_prompts(table, 20, 30, seed=0)
    backwards = table.take(list(range(99, -1, -1)))
    assert split_prompts(backwards, 20, 30, seed=0).equals(split)
    assert not split_prompts(table, 20, 30, seed=1).equals(split)
    # A larger parallel set contains the smaller one: learning curves stay comparable.
    larger = split_prompts(table, 40, 0, seed=0)
    assert larger["prompt_id"].to_pylist()[:20] == split["prompt_id"].to_pylist()[:20]


@pytest.mark.parametrize(
    ("num_parallel", "num_heldout", "message"),
    [
        (11, 0, r"prompts\.num_parallel is 11, but of 10 prompts only 10"),
        (6, 5, r"prompts\.num_heldout is 5, but of 10 prompts only 4"),
    ],
)
def test_too_few_prompts_are_said_in_numbers(
    num_parallel: int, num_heldout: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        split_prompts(some_prompts(10), num_parallel, num_heldout, seed=0)
    whole = split_prompts(some_prompts(10), 10, 0, seed=0)
    assert set(whole["split"].to_pylist()) == {"parallel"}
