"""Imports of other tools' files, on rows as these tools write them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.data.importers.forms import import_form
from persyn_ray.data.importers.rollouts import unrendered
from persyn_ray.engines.base import Message, Request
from persyn_ray.engines.recorded import RecordedEngine
from persyn_ray.errors import ConfigError, DataError

Row = dict[str, Any]


def write(folder: Path, rows: list[Row], name: str = "rows") -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def said(out: Path, teacher: str, folder: str = "responses") -> list[tuple[str, str]]:
    rows = pq.read_table(out / folder / f"{teacher}.parquet").to_pylist()
    return [(row["question"], row["response"]) for row in rows]


def answers(out: Path) -> list[Any]:
    return pq.read_table(out / "prompts.parquet").to_pylist()


def test_distilabel_rows_and_lists_of_generations(tmp_path: Path) -> None:
    meta = {"distilabel_metadata": {"raw_output_text_generation_0": "2"}}
    rows: list[Row] = [
        {"instruction": "1+1?", "generation": "2", "model_name": "org/a"} | meta,
        {"instruction": "1+1?", "generation": ["two", "II"], "model_name": "org/a"},
        {"instruction": "2+2?", "generations": ["4", "five"], "generation_models": ["org/a", "b"]},
        {"instruction": "3+3?", "grouped_generation": ["6", None], "grouped_model_name": ["b"]},
        {
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": "4+4?"},
            ],
            "generation": "8",
            "model_name": "b",
        },
        {"instruction": "5+5?", "generation": None, "model_name": "b"},
        {"instruction": "6+6?", "generations": ["12", "13"], "model_names": ["a", "b", "c"]},
    ]
    found = import_form([write(tmp_path, rows)], tmp_path / "out", "distilabel")
    assert found.num_responses == {"org/a": 2, "b": 3}
    assert (found.num_prompts, found.num_further, found.num_unreadable) == (4, 2, 2)
    assert said(tmp_path / "out", "org-a") == [("1+1?", "2"), ("2+2?", "4")]
    assert said(tmp_path / "out", "b") == [("2+2?", "five"), ("3+3?", "6"), ("4+4?", "8")]
    assert said(tmp_path / "out", "org-a", "further") == [("1+1?", "two"), ("1+1?", "II")]


def test_distilabel_parquet(tmp_path: Path) -> None:
    table = pa.table({"instruction": ["1?"], "generation": [["x", "y"]], "model_name": ["m"]})
    pq.write_table(table, tmp_path / "t.parquet")
    found = import_form([str(tmp_path / "t.parquet")], tmp_path / "out", "distilabel")
    assert (found.num_responses, found.num_further) == ({"m": 1}, 1)


def test_curator_responses(tmp_path: Path) -> None:
    def line(text: Any, errors: list[str] | None = None, model: str = "gpt-4o-mini") -> Row:
        return {
            "response_message": text,
            "parsed_response_message": None,
            "response_errors": errors,
            "raw_response": {"choices": []},
            "raw_request": None,
            "generic_request": {
                "model": model,
                "messages": [{"role": "user", "content": "Name a colour."}],
                "response_format": None,
                "original_row": {"topic": "x"},
                "original_row_idx": 0,
                "generation_params": {},
            },
            "created_at": "2025-01-01 00:00:00",
            "finished_at": "2025-01-01 00:00:01",
            "finish_reason": "stop",
        }

    rows = [line("red"), line({"colour": "blue"}, model="o1"), line(None, ["timed out"]), {"a": 1}]
    found = import_form([write(tmp_path, rows, "responses_0")], tmp_path / "out", "curator")
    assert found.num_responses == {"gpt-4o-mini": 1, "o1": 1}
    assert found.num_unreadable == 2
    assert "timed out" in str(found.first_unreadable)
    assert json.loads(said(tmp_path / "out", "o1")[0][1]) == {"colour": "blue"}


def test_datatrove_rollouts(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1}

    def result(text: str, **more: str) -> Row:
        return {"text": text, "finish_reason": "stop", "usage": usage, "reasoning": ""} | more

    rows: list[Row] = [
        {"text": "1+1?", "id": "a", "metadata": {"rollout_results": [result("2"), result("two")]}},
        {"text": "2+2?", "id": "b", "rollout_results": [result("4", reasoning="2 and 2")]},
        {"text": "3+3?", "id": "c", "metadata": {"rollout_results": ["6"]}},
        {"text": "4+4?", "id": "d", "metadata": {"inference_results": [{"error": "no room"}]}},
        {"text": "5+5?", "id": "e", "metadata": {"file_path": "x"}},
    ]
    path, out = write(tmp_path, rows), tmp_path / "out"
    with pytest.raises(ConfigError, match="--teacher-name"):
        import_form([path], out, "datatrove")
    found = import_form([path], out, "datatrove", "qwen")
    assert said(out, "qwen") == [
        ("1+1?", "2"),
        ("2+2?", "<think>2 and 2</think>\n4"),
        ("3+3?", "6"),
    ]
    assert said(out, "qwen", "further") == [("1+1?", "two")]
    assert found.num_unreadable == 2
    assert "no room" in str(found.first_unreadable)


def request(name: str, text: str) -> Row:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], "max_tokens": 9}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def result(name: str, *texts: str | None, status: int = 200) -> Row:
    choices = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for index, text in enumerate(texts)
    ]
    body = {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-2024-08-06"}
    response = {"status_code": status, "request_id": "r", "body": body | {"choices": choices}}
    return {"id": "batch_req_1", "custom_id": name, "response": response, "error": None}


def test_openai_batches_are_joined_by_id_in_any_order(tmp_path: Path) -> None:
    asked = write(tmp_path, [request("a", "1+1?"), request("b", "2+2?")], "in")
    rows = [result("b", "4", "four"), result("a", "2"), result("c", "?"), result("a", status=400)]
    rows.append({"id": "x", "custom_id": "a", "response": None, "error": {"code": "expired"}})
    done = write(tmp_path, rows, "out")
    found = import_form([done, asked], tmp_path / "o", "openai-batch")
    assert said(tmp_path / "o", "gpt-4o-2024-08-06") == [("2+2?", "4"), ("1+1?", "2")]
    assert said(tmp_path / "o", "gpt-4o-2024-08-06", "further") == [("2+2?", "four")]
    assert found.num_unreadable == 3
    assert "custom_id 'c'" in str(found.first_unreadable)
    named = import_form([done, asked], tmp_path / "n", "openai-batch", "teacher")
    assert named.num_responses == {"teacher": 2}
    with pytest.raises(ConfigError, match="files of requests"):
        import_form([done], tmp_path / "x", "openai-batch")
    twice = write(tmp_path, [request("a", "another")], "twice")
    with pytest.raises(DataError, match=r"'a' stands for two prompts.*one batch"):
        import_form([asked, twice, done], tmp_path / "x", "openai-batch")


def test_openai_responses_in_a_batch(tmp_path: Path) -> None:
    asked = {"custom_id": "a", "url": "/v1/responses", "body": {"model": "m", "input": "1+1?"}}
    output = [
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "2"}]},
    ]
    body = {"object": "response", "model": "m", "output": output}
    done = {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None}
    import_form([write(tmp_path, [asked, done])], tmp_path / "o", "openai-batch")
    assert said(tmp_path / "o", "m") == [("1+1?", "2")]


def test_verl_rollouts_keep_scores_and_every_sample(tmp_path: Path) -> None:
    rendered = "system\nYou are Qwen.\nuser\n1+1?\nassistant\n"
    rows: list[Row] = [
        {"input": rendered, "output": "2", "gts": "2", "score": 1.0, "step": 3, "acc": 1.0},
        {"input": rendered, "output": "3", "gts": "2", "score": 0.0, "step": 3},
        {"input": rendered, "output": "2", "gts": "2", "score": 1.0, "step": 3},
        {"input": "Plain prompt", "output": "x", "gts": {"ground_truth": "y"}, "score": None},
        {"input": "user\na\nassistant\nb\nuser\nc\nassistant\n", "output": "d", "gts": None},
    ]
    out = tmp_path / "out"
    found = import_form([write(tmp_path, rows, "3")], out, "verl", "policy")
    assert (found.num_prompts, found.num_responses, found.num_further) == (2, {"policy": 2}, 2)
    assert found.num_unreadable == 1
    assert answers(out) == [
        {"question": "1+1?", "answer": "2"},
        {"question": "Plain prompt", "answer": "y"},
    ]
    first = pq.read_table(out / "responses" / "policy.parquet").to_pylist()
    assert [row["score"] for row in first] == [1.0, None]
    rest = pq.read_table(out / "further" / "policy.parquet").to_pylist()
    assert [(row["response"], row["score"], row["sample"]) for row in rest] == [
        ("3", 0.0, 1),
        ("2", 1.0, 2),
    ]
    engine = RecordedEngine(str(out / "responses" / "policy.parquet"), "policy")
    (completion,) = engine.generate([Request("p", [Message(role="user", content="1+1?")])])
    assert completion.text == "2"


def test_nemo_rl_and_gym_rollouts(tmp_path: Path) -> None:
    asked = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n"
    logged: list[Row] = [
        {"content": [[asked + "<|im_start|>assistant\n", "2<|im_end|>"]], "rewards": [1.0]},
        {"content": [["2+2?", "4"]], "rewards": [0.5], "input_lengths": [7], "idx": 1},
        {"content": [["a", "b", "c", "d"]], "rewards": [0.0], "idx": 2},
    ]
    out = tmp_path / "logged"
    path = write(tmp_path, logged, "train_data_step1")
    found = import_form([path], out, "nemo-rl", "policy")
    assert said(out, "policy") == [("1+1?", "2"), ("2+2?", "4")]
    assert found.num_unreadable == 1

    output = [{"type": "message", "content": [{"type": "output_text", "text": "2"}]}]
    rollout = {
        "responses_create_params": {"input": [{"role": "user", "content": "1+1?"}]},
        "response": {"model": "org/m", "output": output},
        "reward": 0.85,
        "_ng_task_index": 0,
    }
    import_form([write(tmp_path, [rollout], "gym")], tmp_path / "gym", "nemo-gym")
    (row,) = pq.read_table(tmp_path / "gym" / "responses" / "org-m.parquet").to_pylist()
    assert (row["question"], row["response"], row["score"]) == ("1+1?", "2", 0.85)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("user\nhi\nassistant\n", "hi"),
        ("system\nx\nuser\nhi\nthere\nassistant\n<think>\n", "hi\nthere"),
        ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "hi"),
        ("the user\nand the assistant\nmet", "the user\nand the assistant\nmet"),
        ("[INST] hi [/INST]", "[INST] hi [/INST]"),
    ],
)
def test_only_chatml_is_undone(text: str, asked: str) -> None:
    assert unrendered(text) == asked


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    path, out = write(tmp_path, [{"instruction": "1?"}]), tmp_path / "out"
    with pytest.raises(ConfigError, match=r"'argilla'; known are distilabel, curator"):
        import_form([path], out, "argilla")
    with pytest.raises(ConfigError, match="name their model"):
        import_form([path], out, "distilabel", "me")
    with pytest.raises(DataError, match="holds no response"):
        import_form([path], out, "distilabel")
    for options, told in (
        (["--form", "distilabel", "--teacher", "x"], "leave out the columns"),
        (["--teacher-name", "x"], "goes with --form"),
    ):
        done = CliRunner().invoke(app, ["import-parallel", path, str(out), *options])
        assert told in str(done.exception)
    assert not out.exists()


def test_the_command_counts_what_is_kept(tmp_path: Path) -> None:
    rows = [{"instruction": "1?", "generation": ["x", "y"], "model_name": "m"}]
    command = ["import-parallel", write(tmp_path, rows), str(tmp_path / "o")]
    done = CliRunner().invoke(app, [*command, "--form", "distilabel"])
    assert done.exit_code == 0, done.output
    assert "further/: 1 further responses" in " ".join(done.output.split())
