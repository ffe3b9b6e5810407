"""Prompts: known by content, split by hash, and no bad row stops a run."""

import hashlib
import json
import random
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.data.cells import text_key
from persyn_ray.data.prompt_rows import prompt_id_of
from persyn_ray.data.prompts import UNSPLIT, iter_prompts, load_prompts
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.recipe.data import PromptsConfig
from persyn_ray.storage.schemas import DEAD_LETTERS

USER = {"role": "user", "content": "Hi"}


def section(path: Any, **settings: Any) -> PromptsConfig:
    return PromptsConfig.model_validate({"path": str(path)} | settings)


def jsonl(folder: Path, rows: list[Any], name: str = "prompts.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(table: pa.Table) -> list[str]:
    return [messages[-1]["content"] for messages in table["messages"].to_pylist() if messages]


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
    others = [[{**USER, "content": "Hi!"}], [{**USER, "role": "system"}], [USER, USER]]
    assert len({prompt_id_of(messages) for messages in [[USER], *others]}) == 4
    assert prompt_id_of([USER]) == prompt_id_of([{**USER, "content": " Hi\u200b\r\n"}])
    # From sha256sum of the canonical text: ids never change between versions.
    assert prompt_id_of([USER]) == "557f6d9586f57ae72d24a7d34f47ed21"


@given(st.lists(st.tuples(st.sampled_from(["system", "user"]), st.text()), max_size=3))
def test_an_id_is_made_of_canonical_json(turns: list[tuple[str, str]]) -> None:
    messages = [{"role": role, "content": content} for role, content in turns]
    known_by = [turn | {"content": text_key(turn["content"])} for turn in messages]
    written = json.dumps(known_by, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    try:
        digest = hashlib.sha256(written.encode()).hexdigest()
    except UnicodeEncodeError:
        return
    assert prompt_id_of(messages) == digest[:32]


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
        {"prompt": [{"role": "assistant", "content": "Hi"}]},
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
    values = [72.0, 7.5, 3, True, ["a", "b"], "x ", float("nan"), 10**20, 1e-5, [0.5, None]]
    rows = [{"prompt": str(index), "ref": value} for index, value in enumerate(values)]
    table = load_prompts(section(jsonl(tmp_path, rows), reference_column="ref")).table
    expected = ["72", "7.5", "3", "True", '["a", "b"]', "x", None, "1" + "0" * 20, "0.00001"]
    assert table["reference"].to_pylist() == [*expected, "[0.5, null]"]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([0.1, 7.0], pa.float32()), ["0.1", "7"]),
        (pa.array([0.1, None], pa.float16()), ["0.1", None]),
        (pa.array([1e-5, float("nan")], pa.float64()), ["0.00001", None]),
        (pa.array([b"72", b" \\frac{1}{2} "], pa.binary()), ["72", "\\frac{1}{2}"]),
        (pa.array([2**53 + 1, -1], pa.int64()), ["9007199254740993", "-1"]),
        (pa.array([Decimal("18.70"), Decimal(5)], pa.decimal128(6, 2)), ["18.70", "5"]),
        (pa.array([date(2024, 2, 29), None]), ["2024-02-29", None]),
        (pa.array([datetime(2024, 2, 29)] * 2, pa.timestamp("ns")), ["2024-02-29"] * 2),
        (pa.array([True, False]), ["True", "False"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([[0.1], [2.5, 0.1]], pa.list_(pa.float32())), ["0.1", "[2.5, 0.1]"]),
    ],
)
@pytest.mark.parametrize("through", ["file", "hub"])
def test_references_of_typed_columns_are_what_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: Any, expected: Any, through: str
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"prompt": ["x", "y"], "ref": column}), tmp_path / "set/a.parquet")
    path = tmp_path / "set/a.parquet" if through == "file" else f"hub:{tmp_path / 'set'}"
    table = load_prompts(section(path, reference_column="ref")).table
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
    says = (
        r"'prompt': 2 rows were refused \['no_text', 'wrong_type'\]\. The first is prompts\.jsonl, "
        r"row 1: column 'prompt' is empty\."
    )
    with pytest.raises(DataError, match=says):
        load_prompts(section(path))
    jsonl(tmp_path, [{"prompt": [{"role": "user", "content": [{"type": "image_url"}]}]}])
    with pytest.raises(DataError, match=r"row 1: only text is carried.*'image_url'"):
        load_prompts(section(path))
    path.write_text('{"prompt": "a"}\n')
    table = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), table)
    with pytest.raises(DataError, match="it holds no rows"):
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


def test_the_hub_is_asked_for_the_revision_that_the_recipe_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import datasets

    asked: list[dict[str, Any]] = []

    def load(name: str, config: str | None, **given: Any) -> Any:
        asked.append({"name": name, "config": config} | given)
        return datasets.Dataset.from_dict({"prompt": ["a"]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    load_prompts(section("hub:org/set", revision="0f1e2d"))
    load_prompts(section("hub:org/set"))
    assert [one["revision"] for one in asked] == ["0f1e2d", None]


def test_the_hub_gives_conversations_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    jsonl(tmp_path / "set", [{"chat": [{"from": "human", "value": "a"}], "other": 1}])
    loaded = load_prompts(section(f"hub:{tmp_path / 'set'}", column="chat"))
    assert texts(loaded.table) == ["a"]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_an_instruction_takes_its_input_along(tmp_path: Path, form: str) -> None:
    rows = [
        {"instruction": "Sort.", "input": "3 1 2", "output": "1 2 3"},
        {"instruction": "Sort.", "input": "9 8", "output": "8 9"},
        {"instruction": "Say hi.", "input": "", "output": "hi"},
    ]
    path = tmp_path / f"a.{form}"
    match form:
        case "jsonl":
            jsonl(tmp_path, [*rows, {"instruction": "Late."}], "a.jsonl")
        case "csv":
            pd.DataFrame(rows).to_csv(path, index=False)
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
    table = load_prompts(section(path, column="instruction", template="> {prompt}")).table
    expected = ["> Sort.\n\n3 1 2", "> Sort.\n\n9 8", "> Say hi."]
    assert texts(table)[:3] == expected
    other = load_prompts(section(path, column="input")).table  # by itself it is a prompt
    assert texts(other) == ["3 1 2", "9 8"]


TWINS = ["What is 1+1?", " What is 1+1?", "What is 1+1?\r\n", "\ufeffWhat is\u00a01+1?\u200b"]


@pytest.mark.parametrize(
    "settings", [{}, {"template": "{prompt} Be brief."}, {"system_prompt": "Be brief."}]
)
def test_prompts_that_read_the_same_fall_together_and_the_first_is_sent(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    for rotated in range(len(TWINS)):
        given = TWINS[rotated:] + TWINS[:rotated]
        loaded = load_prompts(section(jsonl(tmp_path, [{"prompt": t} for t in given]), **settings))
        assert loaded.num_duplicates == len(TWINS) - 1
        template = settings.get("template", "{prompt}")
        assert texts(loaded.table) == [template.replace("{prompt}", given[0])]
        assert loaded.table["prompt_id"].to_pylist() == (
            load_prompts(section(jsonl(tmp_path, [{"prompt": TWINS[0]}]), **settings))
            .table["prompt_id"]
            .to_pylist()
        )


def test_twins_among_conversations_fall_together(tmp_path: Path) -> None:
    chats = [[{**USER, "content": text}] for text in ("Caf\u00e9?", "Cafe\u0301?\n")]
    answered = [[*chats[0], {"role": "assistant", "content": "Yes."}]]
    rows = [{"prompt": chat} for chat in (*chats, *answered)] + [{"prompt": "Caf\u00e9? "}]
    loaded = load_prompts(section(jsonl(tmp_path, rows)))
    assert (texts(loaded.table), loaded.num_duplicates) == (["Caf\u00e9?"], 3)


def test_a_key_that_no_row_has_is_named_after_reading(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"prompt": "a"}] * 120 + [{"prompt": "b", "answer": 7}])
    settings = section(path, reference_column="answer")
    assert load_prompts(settings).table["reference"].to_pylist() == [None, "7"]
    says = r"no column \['answers'\]; .*'answer' is nearest to 'answers'.*prompts\.reference_column"
    with pytest.raises(ConfigError, match=says):
        load_prompts(settings.model_copy(update={"reference_column": "answers"}))


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
    monkeypatch.setattr("persyn_ray.data.prompts.CHUNK_ROWS", 6)
    chunks = list(iter_prompts(section(path)))
    assert [chunk.table.num_rows for chunk in chunks] == [6, 6, 3, 0]
    assert pa.concat_tables([chunk.table for chunk in chunks]).equals(whole.table)
    assert sum(chunk.num_duplicates for chunk in chunks) == whole.num_duplicates == 5


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"prompt,answer\n", r"a\.csv.*: it holds no rows\. Set prompts\.path\.$"),
        ("a.jsonl", b"\n\n", r"it holds no rows"),
        (
            "a.csv",
            "prompt,answer\nWie weit ist es f\u00fcr 1?,2\n".encode("cp1252"),
            r"row 1: .* no UTF-8.* save the file as UTF-8\. Set prompts\.path\.$",
        ),
        ("a.csv", b"prompt,answer\nWhat?,\n", r"Set prompts\.reference_column\.$"),
        ("a.csv", b"prompt,answer\n,2\n", r"Set prompts\.path or prompts\.column\.$"),
        ("a.csv", b"prompt,answer\nWhat?\n", r"the header 2\. Set prompts\.path\.$"),
    ],
    ids=["header", "blank", "cp1252", "reference", "empty", "short"],
)
def test_a_file_without_prompts_says_why_and_what_to_set(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    settings = section(tmp_path / name, reference_column="answer")
    with pytest.raises(DataError, match=says) as raised:
        load_prompts(settings, require_reference=True)
    assert "[]" not in str(raised.value)
