"""Importers of public tables, on small files of the published shapes."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.data.importers import writing
from persyn_ray.data.importers.parallel_responses import ZOO_SCORES, import_parallel, import_zoo
from persyn_ray.data.importers.writing import Imported
from persyn_ray.data.prompts import load_prompts
from persyn_ray.engines.base import Message, Request
from persyn_ray.engines.recorded import RecordedEngine
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.recipe.data import PromptsConfig, ResponsesConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.scoring import RecordedScoresConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.stages.generate import Generate
from persyn_ray.stages.quality import Quality

SKYWORK = ZOO_SCORES[0]
Row = dict[str, Any]


def zoo_cell(text: str | None, *scores: float | None) -> Row:
    return {"content": text, **dict(zip(ZOO_SCORES, scores, strict=True))}


ZOO: list[Row] = [
    {
        "uuid": "a",
        "instruction": " What is 1+1?\n",
        "gemma-2-2b-it": zoo_cell("2", 3.5, -1.0, 0.1),
        "Meta-Llama-3.1-405B-Instruct": zoo_cell("It is 2.", 7.25, 2.0, 0.2),
    },
    {
        "uuid": "b",
        "instruction": "Say \u00e9.",
        "gemma-2-2b-it": zoo_cell("\u00e9", None, float("nan"), 0.1),
        "Meta-Llama-3.1-405B-Instruct": zoo_cell(None, None, None, None),
    },
    {
        "uuid": "c",
        "instruction": "What is 1+1?",  # again, with other answers
        "gemma-2-2b-it": zoo_cell("two", 1.0, 1.0, 1.0),
        "Meta-Llama-3.1-405B-Instruct": zoo_cell("II", 1.0, 1.0, 1.0),
    },
]
LONG: list[Row] = [
    {"problem": "1+1?", "answer": 2, "model": "org/r1", "response": "<think>hm</think>2"},
    {"problem": "2+2?", "answer": 4, "model": "qwen-7b", "response": "5"},
    {"problem": "1+1?", "answer": 2, "model": "qwen-7b", "response": "2"},
    {"problem": "2+2?", "answer": 4, "model": "org/r1", "response": None},
    {"problem": "1+1?", "answer": 2, "model": "qwen-7b", "response": "3"},
]
WIDE: list[Row] = [
    {"prompt": "1+1?", "answer": "2", "org/r1": "<think>hm</think>2", "qwen-7b": "2"},
    {"prompt": "2+2?", "answer": "4", "org/r1": None, "qwen-7b": "5"},
]


def write(folder: Path, rows: list[Row], ending: str, name: str = "table") -> str:
    path = folder / f"{name}.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows_in(out: Path, teacher: str) -> list[Row]:
    return pq.read_table(out / "responses" / f"{teacher}.parquet").to_pylist()


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_the_zoo_becomes_prompts_responses_and_scores(tmp_path: Path, ending: str) -> None:
    out = tmp_path / "zoo"
    found = import_zoo([write(tmp_path, ZOO, ending)], out)
    counts = {"gemma-2-2b-it": 2, "Meta-Llama-3.1-405B-Instruct": 1}
    assert found == Imported(2, counts, num_further=2, num_unreadable=0)
    assert pq.read_table(out / "prompts.parquet").to_pylist() == [
        {"question": " What is 1+1?\n"},
        {"question": "Say \u00e9."},
    ]
    unknown = {SKYWORK: None, ZOO_SCORES[1]: None, ZOO_SCORES[2]: 0.1}
    assert rows_in(out, "gemma-2-2b-it")[1] == {
        "question": "Say \u00e9.",
        "teacher": "gemma-2-2b-it",
        "response": "\u00e9",
        **unknown,
    }
    (large,) = rows_in(out, "Meta-Llama-3.1-405B-Instruct")
    assert [large[name] for name in ZOO_SCORES] == [7.25, 2.0, 0.2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"table.{ending}", "zoo"]


def test_a_run_reads_an_imported_zoo_and_needs_no_reward_model(tmp_path: Path) -> None:
    out = tmp_path / "zoo"
    import_zoo([write(tmp_path, ZOO, "parquet")], out)
    section = PromptsConfig(path=str(out / "prompts.parquet"), column="question")  # pyright: ignore
    loaded = load_prompts(section).table
    prompts = loaded.append_column("split", pa.array(["parallel"] * 2, pa.string()))
    names = ["gemma-2-2b-it", "Meta-Llama-3.1-405B-Instruct"]
    asked = [
        Generate(
            TeacherConfig.model_validate(
                {
                    "name": name,
                    "engine": {"kind": "recorded", "path": f"{out}/responses/{name}.parquet"},
                }
            ),
            TeacherPool(tuple(names)),
        )(prompts)
        for name in names
    ]
    how = RecordedScoresConfig(
        kind="recorded", path=f"{out}/responses/*.parquet", score_column=SKYWORK
    )
    found = Quality(how, ResponsesConfig())(prompts, pa.concat_tables(asked)).to_pylist()
    assert [(row["quality"], row["outcome"]) for row in found] == [
        (3.5, "scored"),
        (None, "not_recorded"),
        (7.25, "scored"),
        (None, "no_response"),
    ]


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_long_and_wide_tables_say_the_same(tmp_path: Path, ending: str) -> None:
    long = import_parallel([write(tmp_path, LONG, ending, "long")], tmp_path / "a")
    wide = import_parallel(
        [write(tmp_path, WIDE, ending, "wide")], tmp_path / "b", teachers=("org/r1", "qwen-7b")
    )
    assert (long.num_prompts, long.num_responses) == (2, {"org/r1": 1, "qwen-7b": 2})
    assert (wide.num_prompts, wide.num_responses) == (2, {"org/r1": 1, "qwen-7b": 2})
    assert (long.num_further, wide.num_further) == (1, 0)
    for name in ("org-r1", "qwen-7b"):
        by_prompt = [
            {row["question"]: row for row in rows_in(tmp_path / out, name)} for out in "ab"
        ]
        assert by_prompt[0] == by_prompt[1]
    for out in "ab":
        prompts = pq.read_table(tmp_path / out / "prompts.parquet").to_pylist()
        assert prompts == [
            {"question": "1+1?", "answer": "2"},
            {"question": "2+2?", "answer": "4"},
        ]
    engine = RecordedEngine(str(tmp_path / "a" / "responses" / "org-r1.parquet"), "org/r1")
    asked = [Request("p", [Message(role="user", content=text)]) for text in ("1+1?", "2+2?")]
    assert [one.text for one in engine.generate(asked)] == ["<think>hm</think>2", None]


def test_columns_are_named_where_they_are_not_the_usual_ones(tmp_path: Path) -> None:
    rows = [{"text": "1+1?", "prompt": "x", "question": "y", "who": "ada", "said": "2"}]
    path = write(tmp_path, rows, "parquet")
    names = {"prompt_column": "text", "teacher_column": "who", "response_column": "said"}
    found = import_parallel([path], tmp_path / "out", **names)
    assert found.num_responses == {"ada": 1}
    assert pq.read_schema(tmp_path / "out" / "prompts.parquet").names == ["question"]
    for left_out, complaint in (
        ("prompt_column", r"\['prompt', 'question'\] to choose from.*--prompt-column"),
        ("teacher_column", r"none of \['teacher', 'model'\].*--teacher-column"),
    ):
        fewer = {name: column for name, column in names.items() if name != left_out}
        with pytest.raises(ConfigError, match=complaint):
            import_parallel([path], tmp_path / "other", **fewer)
    with pytest.raises(ConfigError, match=r"no column 'key'.*--answer-column"):
        import_parallel([path], tmp_path / "other", **names, answer_column="key")
    with pytest.raises(ConfigError, match="the one or the other"):
        import_parallel([path], tmp_path / "other", **names, teachers=("said",))
    with pytest.raises(ConfigError, match=r"no column \['nobody'\]"):
        import_parallel([path], tmp_path / "other", prompt_column="text", teachers=("nobody",))


def test_every_file_with_a_header_has_all_columns(tmp_path: Path) -> None:
    rest = [{key: value for key, value in LONG[1].items() if key != "answer"}]
    whole = write(tmp_path, LONG, "parquet", "whole")
    with pytest.raises(ConfigError, match=r"rest\.parquet has no column \['answer'\]"):
        import_parallel([whole, write(tmp_path, rest, "parquet", "rest")], tmp_path / "out")


@pytest.mark.parametrize("late", [1, 101, 1_500])
def test_an_answer_may_come_in_a_late_row_or_file(tmp_path: Path, late: int) -> None:
    rows = [{"problem": f"{n}?", "model": "ada", "response": "x"} for n in range(late)]
    rows.append(LONG[0])
    paths = [
        write(tmp_path, rows[:1], "jsonl", "first"),
        write(tmp_path, rows[1:], "jsonl", "rest"),
    ]
    assert import_parallel(paths, tmp_path / "out").num_prompts == late + 1
    prompts = pq.read_table(tmp_path / "out" / "prompts.parquet").to_pylist()
    assert prompts[-1] == {"question": "1+1?", "answer": "2"}
    assert {row["answer"] for row in prompts[:-1]} == {None}


def test_answers_are_what_was_meant(tmp_path: Path) -> None:
    values = [float("nan"), float("inf"), None, " ", 1e-5, 7.0, True, [1, 2]]
    rows = [LONG[0] | {"problem": f"{n}?", "answer": value} for n, value in enumerate(values)]
    import_parallel([write(tmp_path, rows, "jsonl")], tmp_path / "out")
    found = pq.read_table(tmp_path / "out" / "prompts.parquet")["answer"].to_pylist()
    assert found == [None, None, None, None, "0.00001", "7", "True", "[1, 2]"]
    narrow = pa.table(
        {
            "problem": ["1?", "2?"],
            "answer": pa.array([0.1, None], pa.float32()),
            "model": [5, 5],
            "response": pa.array([b"0.1", None], pa.binary()),
        }
    )
    pq.write_table(narrow, tmp_path / "narrow.parquet")
    found = import_parallel([str(tmp_path / "narrow.parquet")], tmp_path / "narrow")
    assert found.num_responses == {"5": 1}
    assert rows_in(tmp_path / "narrow", "5")[0]["response"] == "0.1"
    answers = pq.read_table(tmp_path / "narrow" / "prompts.parquet")["answer"].to_pylist()
    assert answers == ["0.1", None]


def test_prompts_that_read_the_same_are_one(tmp_path: Path) -> None:
    rows = [LONG[0] | {"problem": text} for text in ("1+1?", "1+1?\u200b ", "1+1?\r\n")]
    rows.append(LONG[0] | {"problem": [{"role": "user", "content": "1+1?"}]})
    found = import_parallel([write(tmp_path, rows, "jsonl")], tmp_path / "out")
    assert (found.num_prompts, found.num_further, found.num_unreadable) == (1, 3, 0)


def test_one_bad_response_leaves_the_others_of_its_row(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"prompt": "1?", "a": ["x"], "b": "fine"},
        {"prompt": "2?", "a": "half \ud800", "b": 7},
        {"prompt": [*[{"role": "user", "content": "x"}] * 2], "a": "x", "b": "x"},
    ]
    found = import_parallel([write(tmp_path, rows, "jsonl")], tmp_path / "out", teachers=("a", "b"))
    assert (found.num_responses, found.num_unreadable) == ({"b": 2}, 3)
    assert "row 1: response of a: a message needs a role" in str(found.first_unreadable)


def test_a_score_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    rows = [{"instruction": "1?", "gemma": zoo_cell("2", 1, 1, 1) | {SKYWORK: "good"}}]
    found = import_zoo([write(tmp_path, rows, "jsonl")], tmp_path / "out")
    assert (found.num_responses, found.num_unreadable) == ({"gemma": 1}, 1)
    assert "a number is expected, found 'good'" in str(found.first_unreadable)
    assert rows_in(tmp_path / "out", "gemma")[0][SKYWORK] is None


def test_rows_without_a_prompt_are_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = Path(write(tmp_path, LONG, "jsonl"))
    lines = [
        '{"problem": "3+3?"',  # damaged
        json.dumps(LONG[0] | {"problem": " "}),
        json.dumps(LONG[0] | {"model": None}),
        json.dumps(LONG[0] | {"problem": "half \ud800"}),
    ]
    path.write_text(path.read_text() + "\n".join(lines) + "\n")
    found = import_parallel([str(path)], tmp_path / "out")
    assert (found.num_prompts, found.num_unreadable) == (2, 4)


def test_what_is_not_as_published_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = [{"uuid": "a", "instruction": "1+1?", "gemma": json.dumps(zoo_cell("2", 1, 1, 1))}]
    with pytest.raises(DataError, match="holds no response"):
        import_zoo([write(tmp_path, text, "parquet")], out)
    with pytest.raises(DataError, match="row 1: response of org/r1: a message needs a role"):
        import_parallel([write(tmp_path, [LONG[0] | {"response": ["2"]}], "jsonl")], out)
    with pytest.raises(ConfigError, match=r"no column \['instruction'\]"):
        import_zoo([write(tmp_path, LONG, "jsonl")], out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.jsonl", "table.parquet"]
    out.mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        import_zoo([write(tmp_path, ZOO, "jsonl")], out)


def test_many_rows_go_through_a_small_buffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "BUFFERED", 3)
    rows = [LONG[0] | {"problem": f"{n}+1?", "answer": n + 1} for n in range(10)]
    paths = [
        write(tmp_path, rows[:4], "jsonl", "one"),
        write(tmp_path, rows[4:], "jsonl", "two"),
    ]
    assert import_parallel(paths, tmp_path / "out").num_responses == {"org/r1": 10}
    assert [row["question"] for row in rows_in(tmp_path / "out", "org-r1")] == [
        row["problem"] for row in rows
    ]


def test_both_commands_write_and_count(tmp_path: Path) -> None:
    zoo, long = write(tmp_path, ZOO, "parquet"), write(tmp_path, LONG, "jsonl")
    for arguments in (
        ["import-zoo", zoo, str(tmp_path / "a")],
        ["import-parallel", long, str(tmp_path / "b"), "--answer-column", "answer"],
        ["import-parallel", zoo, str(tmp_path / "c"), "--teacher", "uuid"],
    ):
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert "Wrote 2 prompts" in " ".join(result.output.split())
        assert "cannot be read:" not in result.output
    assert len(list(tmp_path.glob("?/responses/*.parquet"))) == 5


@pytest.mark.parametrize(
    "names",
    [
        ("org/m", "org-m", "org m"),
        ("日本語", "中文", "한국어"),
        ("..", "/", "-"),
        ("t" * 400, "t" * 399 + "u", "日" * 300),
    ],
    ids=["signs", "scripts", "dots", "long"],
)
def test_every_teacher_has_a_file_of_its_own(tmp_path: Path, names: tuple[str, ...]) -> None:
    rows: list[Row] = [
        {"prompt": f"{number}?", "model": name, "response": f"{name} says {number}"}
        for number in range(2)
        for name in names
    ]
    out = tmp_path / "out"
    found = import_parallel([write(tmp_path, rows, "jsonl")], out)
    assert found.num_responses == dict.fromkeys(names, 2)
    tables = [pq.read_table(path).to_pylist() for path in (out / "responses").iterdir()]
    written = sorted((row["teacher"], row["response"]) for table in tables for row in table)
    assert written == sorted((row["model"], row["response"]) for row in rows)
    assert all(len({row["teacher"] for row in table}) == 1 for table in tables)


def test_the_same_table_gives_the_same_files(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"prompt": "1?", "model": name, "response": "x"} for name in ("a/b", "a-b", "日本")
    ]
    for name in ("one", "two"):
        import_parallel([write(tmp_path, rows, "jsonl")], tmp_path / name)
    files = [
        {path.name for path in (tmp_path / name / "responses").iterdir()} for name in ("one", "two")
    ]
    assert files[0] == files[1]
    assert {"a-b.parquet", "teacher.parquet"} < files[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("\n\n", "holds no row that can be read"),
        ("nothing\nof JSON\n", "row 1: no valid JSON"),
        ('{"Prompt": "1?", "model": "a", "response": "x"}\n', "'Prompt' is nearest to 'prompt'"),
        ('{"prompt": "1?", "Model ": "a", "response": "x"}\n', "'Model ' is nearest to 'model'"),
    ],
    ids=["blank", "no json", "capital", "space"],
)
def test_a_table_without_the_usual_columns_says_what_it_has(
    tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text(content)
    with pytest.raises((ConfigError, DataError), match=says) as raised:
        import_parallel([str(path)], tmp_path / "out")
    assert "table.jsonl" in str(raised.value)


@pytest.mark.parametrize("command", ["import-parallel", "init"])
@pytest.mark.parametrize("place", ["/proc/nowhere/out", "FILE/out"])
def test_a_place_that_cannot_be_written_is_one_message(
    tmp_path: Path, place: str, command: str
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    out = place.replace("FILE", str(file))
    sources = [write(tmp_path, LONG, "jsonl")] if command == "import-parallel" else []
    done = CliRunner().invoke(app, [command, *sources, out])
    assert isinstance(done.exception, ConfigError)
    assert "Cannot write" in str(done.exception)
    assert out in str(done.exception)
    assert file.read_text() == "mine"
