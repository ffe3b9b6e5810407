"""Responses that a chat template cannot carry: that row is a counted null, and no step ends."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from persyn_ray.errors import ConfigError, DataError, StepError
from persyn_ray.models.chat import encode_example
from persyn_ray.models.load import load_tokenizer, save_random
from persyn_ray.models.templates.check import require_sound_template
from persyn_ray.pipeline.load_prompts import write_prompts
from persyn_ray.pipeline.unreadable_responses import file_unreadable
from persyn_ray.recipe.base import ModelConfig, StudentConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import RewardModelConfig
from persyn_ray.shards.score import Score
from persyn_ray.shards.tables import shards_of
from persyn_ray.shards.units import units_of
from persyn_ray.stages.encode import Encoder, LeftOut, require_examples
from persyn_ray.stages.learnability import Learnability, ToExamples
from persyn_ray.stages.quality import Quality
from persyn_ray.storage.layout import PERSYN, RunLayout, run_of
from persyn_ray.storage.schemas import EXAMPLES, PROMPTS, RESPONSES

from ..conftest import leave_record

Make = Callable[..., Recipe]
Table = Callable[..., pa.Table]
TEMPLATES = Path(__file__).parents[1] / "templates"
QWEN3 = (TEMPLATES / "qwen3.jinja").read_text()
ALTERNATING = (TEMPLATES / "mistral_v0.1.jinja").read_text()
TWICE = "<think>\nLet me see.\n</think>\n\nThe tag `</think>` ends it."
"""A response that mentions the closing tag once more behind its own thinking."""
THOUGHT = "<think>\nLet me see.\n</think>\n\nThe closing tag."


def outcomes(table: pa.Table) -> list[str]:
    return table["outcome"].to_pylist()


def test_a_response_that_the_template_rewrites_is_null_and_the_others_are_scored(
    random_llama: str, prompts: Table, responses: Table
) -> None:
    student = StudentConfig(name=random_llama, chat_template=QWEN3)
    asked = prompts(("Which tag ends the thinking?", None), ("a", None), ("b", None))
    table = Learnability(student)(asked, responses(("p0", TWICE), ("p1", THOUGHT), ("p2", "no")))
    assert outcomes(table) == ["unreadable", "scored", "scored"]
    assert [value is None for value in table["log_likelihood"].to_pylist()] == [True, False, False]
    assert "rewrites the response: after" in table["detail"][0].as_py()
    assert table["detail"][1].as_py() is None


def test_a_prompt_that_the_template_refuses_costs_its_own_rows(
    random_llama: str, prompts: Table, responses: Table
) -> None:
    asked = prompts(("a", None), ("b", None)).to_pylist()
    asked[0]["messages"] *= 2
    table = pa.Table.from_pylist(asked, schema=prompts(("a", None)).schema)
    student = StudentConfig(name=random_llama, chat_template=ALTERNATING)
    found = Learnability(student)(table, responses(("p0", "yes"), ("p1", "yes")))
    assert outcomes(found) == ["unreadable", "scored"]
    assert "must alternate" in found["detail"][0].as_py()


def test_every_reason_for_a_null_has_a_word(
    random_llama: str, prompts: Table, responses: Table
) -> None:
    student = StudentConfig(name=random_llama, chat_template=QWEN3)
    asked = prompts(*((text, None) for text in "abcd"))
    said = responses(("p0", None), ("p1", "x" * 400), ("p2", TWICE), ("p3", "x"))
    found = [one.outcome for one in ToExamples(student, max_length=200)(asked, said)]
    assert found == ["no_response", "too_long", "unreadable", "scored"]


WILD = st.lists(
    st.sampled_from(
        [
            *("<think>", "</think>", "<|im_end|>", "<|im_start|>", "\n", " ", "\u200b", "\ufeff"),
            *("Yes", "no.", "[/INST]", "</s>", "{{ x }}", "é", "👩‍👩‍👧", "\0", "<|endoftext|>"),
        ]
    ),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("name", ["qwen3", "qwen3_thinking", "chatml", "mistral_v0.1", "qwq"])
@given(text=WILD)
@settings(max_examples=40, deadline=None)
def test_no_response_ends_a_step(name: str, text: str) -> None:
    from persyn_ray.models.load import resolve

    template = (TEMPLATES / f"{name}.jinja").read_text()
    to_examples = ToExamples(StudentConfig(name=resolve("random:llama"), chat_template=template))
    row = {"prompt_id": "p", "teacher": "t", "finish_reason": "stop"}
    counts = {"num_prompt_tokens": 1, "num_tokens": 1}
    said = pa.Table.from_pylist([row | counts | {"response": text}], schema=RESPONSES)
    messages = [{"role": "user", "content": "Hi"}]
    asked = pa.Table.from_pylist([{"prompt_id": "p", "messages": messages}])
    (one,) = to_examples(asked, said)
    assert (one.example is None) == (one.outcome != "scored")
    assert (one.detail is None) == (one.outcome != "unreadable")


@pytest.mark.parametrize(
    "template",
    [
        "broken_hint",
        "broken_order",
        "broken_no_generation_prompt",
        "broken_signature",
    ],
)
def test_a_template_that_breaks_every_row_is_an_error_that_shows_the_place(
    random_llama: str, template: str
) -> None:
    text = (TEMPLATES / f"{template}.jinja").read_text().replace("<|eot_id|>", "<|im_end|>")
    tokenizer = load_tokenizer(random_llama, chat_template=text)
    with pytest.raises(ConfigError, match=r"The chat template of .* (rewrites the|writes no)"):
        require_sound_template(tokenizer)
    with pytest.raises(ConfigError):
        ToExamples(StudentConfig(name=random_llama, chat_template=text))


def test_a_reward_model_that_refuses_a_row_leaves_it_unscored(
    prompts: Table, responses: Table, tmp_path: Path
) -> None:
    refuses = (
        "{% for m in messages %}{% if 'sesame' in m.content %}{{ raise_exception('Not that!') }}"
        "{% endif %}{{ m.content }}{% endfor %}"
    )
    model = ModelConfig(name=str(save_random("reward", tmp_path)), chat_template=refuses)
    quality = Quality(RewardModelConfig(kind="reward_model", model=model))
    asked = prompts(("a", None), ("b", None), ("c", None))
    table = quality(asked, responses(("p0", "yes"), ("p1", "open sesame"), ("p2", None)))
    assert outcomes(table) == ["scored", "unreadable", "no_response"]
    assert "Not that!" in table["detail"][1].as_py()
    assert table["quality"].null_count == 2


def answered(
    make: Make, changes: dict[str, Any], texts: dict[str, str]
) -> tuple[Recipe, RunLayout, str]:
    """A run whose teachers have answered every prompt of the parallel set alike."""
    recipe = make({"prompts.shard_rows": 12} | changes)
    run = run_of(recipe)
    leave_record(recipe, "prompts", write_prompts(recipe, run))
    (shard,) = shards_of(run, "parallel")
    ids = run.prompts.read_table(shard)["prompt_id"].to_pylist()
    for teacher in recipe.teachers:
        rows = [
            {
                "prompt_id": prompt_id,
                "teacher": teacher.name,
                "response": texts[teacher.name],
                "finish_reason": "stop",
                "num_prompt_tokens": 1,
                "num_tokens": 1,
            }
            for prompt_id in ids
        ]
        table = pa.Table.from_pylist(rows, schema=RESPONSES)
        run.responses(teacher).write_table(shard, table)
    return recipe, run, shard


def test_unreadable_responses_are_buried_and_told_with_the_first_reason(
    make_recipe: Make, random_llama: str
) -> None:
    changes = {"student.name": random_llama, "student.chat_template": QWEN3}
    texts = {"a": TWICE, "b": THOUGHT, "c": "yes"}
    recipe, run, shard = answered(make_recipe, changes, texts)
    done = Score(recipe)(*units_of([shard]))
    assert (done.rows, done.errors) == (36, 12)
    told = io.StringIO()
    num_unreadable = file_unreadable(recipe, run, [shard], Console(file=told, width=2000))
    assert num_unreadable == 12
    assert f"student {random_llama!r} cannot read 12 of 36 responses" in told.getvalue()
    assert "rewrites the response" in told.getvalue()
    buried = run.dead_letters("score").read_table(shard).to_pylist()
    assert {(one["teacher"], one["reason"]) for one in buried} == {("a", "unreadable_response")}
    assert len(buried) == 12
    # Once more, by another process: nothing is scored again, and the letters are the same.
    assert Score(recipe)(*units_of([shard])).rows == 0
    file_unreadable(recipe, run, [shard], Console(quiet=True))
    assert run.dead_letters("score").read_table(shard).to_pylist() == buried


def test_a_template_that_carries_no_response_at_all_ends_the_step_with_its_reason(
    make_recipe: Make, random_llama: str
) -> None:
    """The prompt closes the thinking, and every teacher brings its own."""
    changes = {
        "student.name": random_llama,
        "student.chat_template": QWEN3,
        "student.template_kwargs": {"enable_thinking": False},
    }
    recipe, run, shard = answered(make_recipe, changes, dict.fromkeys("abc", THOUGHT))
    Score(recipe)(*units_of([shard]))
    with pytest.raises(DataError, match=r"can read none of 36 responses.*`responses.thinking` to"):
        file_unreadable(recipe, run, [shard], Console(quiet=True))


def examples_in(run: RunLayout, *responses: str) -> None:
    rows = [
        {
            "prompt_id": f"p{number}",
            "teacher": "a",
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": response},
            ],
        }
        for number, response in enumerate(responses)
    ]
    run.examples(PERSYN).write_table("0.parquet", pa.Table.from_pylist(rows, schema=EXAMPLES))


def encoded(recipe: Recipe, tokenizer: Any) -> tuple[pa.Table, LeftOut]:
    tables = (table for _, table in run_of(recipe).examples(PERSYN).tables())
    config = recipe.finetune
    encode = Encoder(tokenizer, recipe.student, config.max_length, config.too_long)
    table = encode(tables)
    require_examples(PERSYN, table.num_rows, config.max_length, encode.left_out)
    return table, encode.left_out


def test_examples_that_the_student_cannot_read_are_left_out_and_counted(
    make_recipe: Make, random_llama: str
) -> None:
    changes = {"student.chat_template": QWEN3, "finetune.max_length": 200}
    recipe = make_recipe({"student.name": random_llama} | changes)
    tokenizer = load_tokenizer(random_llama, chat_template=QWEN3)
    examples_in(run_of(recipe), "one", TWICE, "x" * 400, THOUGHT)
    kept, left_out = encoded(recipe, tokenizer)
    assert kept["prompt_id"].to_pylist() == ["p0", "p3"]
    assert (left_out.too_long, left_out.num_unreadable) == ({"a": 1}, 1)
    assert "rewrites the response" in (left_out.first_unreadable or "")


@pytest.mark.parametrize("too_long", ["truncate", "raise"])
def test_long_examples_are_cut_or_refused_where_the_recipe_says_so(
    make_recipe: Make, random_llama: str, too_long: str
) -> None:
    changes = {"finetune.max_length": 60, "finetune.too_long": too_long}
    recipe = make_recipe({"student.name": random_llama} | changes)
    tokenizer = load_tokenizer(random_llama)
    examples_in(run_of(recipe), "one", "x" * 400)
    if too_long == "raise":
        with pytest.raises(StepError, match=r"response of a to prompt p1 has 4\d\d tokens"):
            encoded(recipe, tokenizer)
        return
    kept, left_out = encoded(recipe, tokenizer)
    short, long = kept["ids"].to_pylist()
    whole = encode_example(tokenizer, [{"role": "user", "content": "Hi"}], "x" * 400)
    assert long == whole.ids[:60]
    assert kept["num_prompt_tokens"].to_pylist() == [whole.num_prompt_tokens] * 2
    assert len(short) < 60
    assert left_out.too_long == {"a": 1}


def test_scoring_and_training_count_the_same_tokens(make_recipe: Make, random_llama: str) -> None:
    recipe = make_recipe({"student.name": random_llama})
    texts = ["one", "  two\n", "<think>x</think>\n\n4", "\u6570 <|im_end|> \U0001f600"]
    examples_in(run_of(recipe), *texts)
    kept, _ = encoded(recipe, load_tokenizer(random_llama))
    prompts = pa.Table.from_pylist(
        [
            {
                "prompt_id": f"p{number}",
                "messages": [{"role": "user", "content": "Hi"}],
                "source": "s",
                "split": "parallel",
            }
            for number in range(len(texts))
        ],
        schema=PROMPTS,
    )
    responses = pa.Table.from_pylist(
        [
            {
                "prompt_id": f"p{number}",
                "teacher": "a",
                "response": text,
                "finish_reason": "stop",
                "num_prompt_tokens": 1,
                "num_tokens": 1,
            }
            for number, text in enumerate(texts)
        ],
        schema=RESPONSES,
    )
    scored = ToExamples(recipe.student, responses=recipe.responses)(prompts, responses)
    found = {one.prompt_id: one.example for one in scored}
    for row in kept.to_pylist():
        example = found[row["prompt_id"]]
        assert example is not None
        assert (row["ids"], row["num_prompt_tokens"]) == (example.ids, example.num_prompt_tokens)


def test_fine_tuning_on_nothing_says_what_became_of_the_examples(
    make_recipe: Make, random_llama: str
) -> None:
    changes = {"student.chat_template": QWEN3, "finetune.max_length": 200}
    recipe = make_recipe({"student.name": random_llama} | changes)
    tokenizer = load_tokenizer(random_llama, chat_template=QWEN3)
    examples_in(run_of(recipe), TWICE, "x" * 400)
    with pytest.raises(StepError, match=r"1 are longer than finetune.max_length 200, and 1 are "):
        encoded(recipe, tokenizer)


def test_examples_end_with_what_the_student_is_told_to_write(
    make_recipe: Make, random_llama: str
) -> None:
    recipe = make_recipe({"student.name": random_llama, "student.end_of_turn": "<|endoftext|>"})
    tokenizer = load_tokenizer(random_llama)
    examples_in(run_of(recipe), "one", "two")
    kept, _ = encoded(recipe, tokenizer)
    assert (
        tokenizer.convert_ids_to_tokens([ids[-1] for ids in kept["ids"].to_pylist()])
        == ["<|endoftext|>"] * 2
    )
