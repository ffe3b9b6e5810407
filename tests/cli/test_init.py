"""`persyn init`: prompts and names of models become a recipe that passes `persyn check`."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.recipe.engines import OpenAIEngineConfig
from persyn_ray.recipe.recipe import Recipe, load_recipe

TEACHERS = ("openai:gpt-4o-mini", "vllm:Qwen/Qwen2.5-7B-Instruct")
STUDENT = "Qwen/Qwen2.5-1.5B"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")


def write(rows: list[dict[str, Any]], name: str = "prompts.jsonl") -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def math_rows(number: int) -> list[dict[str, Any]]:
    return [
        {"question": f"{n} + {n}?", "answer": 2 * n, "level": f"level {n % 3}"}
        for n in range(number)
    ]


def init(prompts: str, *more: str, teachers: tuple[str, ...] = TEACHERS) -> Recipe:
    flags = [part for teacher in teachers for part in ("--teacher", teacher)]
    arguments = ["init", "my.yaml", "--prompts", prompts, "--student", STUDENT, *flags, *more]
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None:
        raise result.exception
    return load_recipe("my.yaml")


def passes(*overrides: str) -> bool:
    result = CliRunner().invoke(app, ["check", "my.yaml", *overrides, "--offline", "--json"])
    assert [one for one in json.loads(result.stdout) if one["state"] == "problem"] == []
    return result.exit_code == 0


def test_a_file_with_answers_becomes_a_recipe_that_checks_them() -> None:
    recipe = init(write(math_rows(1000)))
    assert recipe.pool.names == ("gpt-4o-mini", "Qwen2.5-7B-Instruct")
    assert (recipe.student.name, recipe.router.backbone.name) == (STUDENT, STUDENT)
    section = recipe.prompts
    assert (section.column, section.reference_column) == ("question", "answer")
    assert section.task_column == "level"
    assert (section.num_parallel, section.num_heldout) == (200, 100)
    assert recipe.scoring.quality.kind == "exact_answer"
    assert passes()


@pytest.mark.parametrize(
    ("number", "parallel", "heldout"),
    [(2, 1, 0), (24, 12, 2), (150, 75, 15), (4000, 800, 400), (20_000, 2500, 500)],
)
def test_set_sizes_fit_the_number_of_different_prompts(
    number: int, parallel: int, heldout: int
) -> None:
    recipe = init(write(math_rows(number) + math_rows(number // 2)))
    section = recipe.prompts
    assert (section.num_parallel, section.num_heldout) == (parallel, heldout)


def test_small_files_pass_the_check_too() -> None:
    init(write(math_rows(2)))
    assert passes()


@pytest.mark.parametrize(
    ("row", "column", "kind"),
    [
        ({"messages": [{"role": "user", "content": "Hi N"}]}, "messages", "reward_model"),
        ({"Prompt": "Write on N", "response": "long " * 60}, "Prompt", "reward_model"),
        ({"problem": "Solve N", "solution": "so $\\boxed{N}$" * 9}, "problem", "exact_answer"),
        ({"id": 7, "words": "Say N"}, "words", "reward_model"),
        ({"question": "How N?", "answer": "text " * 60}, "question", "reward_model"),
        ({"question": "How N?", "answer": "a " * 60 + "#### N"}, "question", "exact_answer"),
    ],
)
def test_columns_are_found_by_name_and_content(row: Any, column: str, kind: str) -> None:
    rows = [json.loads(json.dumps(row).replace("N", str(n))) for n in range(40)]
    recipe = init(write(rows))
    assert recipe.prompts.column == column
    assert recipe.scoring.quality.kind == kind
    assert passes()


def test_other_forms_of_files_are_read_and_odd_names_survive() -> None:
    Path("odd: #1 'x'.csv").write_text("a: b,answer\n" + "".join(f"say {n},{n}\n" for n in "123"))
    recipe = init("odd: #1 'x'.csv", "--column", "a: b")
    assert (recipe.prompts.path, recipe.prompts.column) == ("odd: #1 'x'.csv", "a: b")
    assert passes()


def test_endpoints_get_addresses_and_keys_where_they_need_them() -> None:
    both = ("openai:a", "transformers:t", "openai:b")
    urls = ("--base-url", "http://127.0.0.1:8000/v1", "--base-url", "https://host/v1")
    recipe = init(write(math_rows(9)), *urls, "--api-key-env", "MY_KEY", teachers=both)
    first, second = recipe.teachers[0].engine, recipe.teachers[2].engine
    assert isinstance(first, OpenAIEngineConfig)
    assert isinstance(second, OpenAIEngineConfig)
    assert (first.base_url, first.api_key_env) == ("http://127.0.0.1:8000/v1", "MY_KEY")
    assert (second.base_url, second.api_key_env) == ("https://host/v1", "MY_KEY")
    Path("my.yaml").unlink()
    recipe = init("prompts.jsonl", *urls[:2], teachers=("openai:a", "openai:org/a"))
    assert recipe.pool.names == ("a", "a-2")
    assert {teacher.engine.model_dump()["api_key_env"] for teacher in recipe.teachers} == {None}


def test_the_longest_response_is_that_of_teachers_and_student() -> None:
    recipe = init(write(math_rows(30)), "--max-tokens", "96")
    limits = {teacher.sampling.max_tokens for teacher in recipe.teachers}
    assert limits | {recipe.evaluate.max_tokens} == {96}


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["--prompts", "absent.jsonl"], ConfigError, "absent.jsonl"),
        (["--prompts", "empty.jsonl"], DataError, "empty"),
        (["--prompts", "two.jsonl"], ConfigError, "--column NAME"),
        (["--prompts", "two.jsonl", "--column", "c"], ConfigError, "has no column 'c'"),
        (["--prompts", "hub:org/set"], ConfigError, "is on the hub"),
        (["--prompts", "p.jsonl", "--teacher", "gpt"], ConfigError, "--teacher gpt: .*KIND:MODEL"),
        (["--prompts", "p.jsonl", "--base-url", "https://u:pw@h/v1"], ConfigError, "secret"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(
    arguments: list[str], error: type[Exception], says: str
) -> None:
    write(math_rows(3), "p.jsonl")
    write([], "empty.jsonl")
    write([{"a": "some text", "b": "other text"}] * 3, "two.jsonl")
    teachers = ["--teacher", TEACHERS[0], "--teacher", TEACHERS[1], "--student", STUDENT]
    result = CliRunner().invoke(app, ["init", "my.yaml", *teachers, *arguments])
    with pytest.raises(error, match=says):
        raise result.exception or AssertionError(result.output)
    assert not Path("my.yaml").exists()


def test_one_teacher_is_too_few() -> None:
    with pytest.raises(ConfigError, match="at least two teachers"):
        init(write(math_rows(3)), teachers=TEACHERS[:1])


def test_flags_that_are_missing_are_named_where_nobody_can_be_asked() -> None:
    result = CliRunner().invoke(app, ["init", "my.yaml", "--student", STUDENT])
    with pytest.raises(ConfigError, match=r"--prompts \(a file\) and --teacher"):
        raise result.exception or AssertionError(result.output)


def test_on_a_terminal_what_is_missing_is_asked_for() -> None:
    prompts = write(math_rows(30))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "persyn_ray.cli", "init", "my.yaml", "--prompts", prompts]
    asked = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs)
    os.write(ours, f"{TEACHERS[0]}\n{TEACHERS[1]}\n\n{STUDENT}\n".encode())
    told, _ = asked.communicate(timeout=600)
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == 0, told
    assert load_recipe("my.yaml").pool.names == ("gpt-4o-mini", "Qwen2.5-7B-Instruct")
    assert load_recipe("my.yaml").student.name == STUDENT
