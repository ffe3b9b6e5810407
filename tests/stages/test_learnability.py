"""The student's measures: matched by prompt, null where there is nothing to score."""

from collections.abc import Callable

import pyarrow as pa
import pytest

from persyn_ray.config import Responses
from persyn_ray.models.chat import encode_example
from persyn_ray.schemas import LEARNABILITY
from persyn_ray.sections import Model
from persyn_ray.stages.learnability import Learnability

Table = Callable[..., pa.Table]


def by_prompt(table: pa.Table, column: str) -> dict[str, object]:
    return dict(zip(table["prompt_id"].to_pylist(), table[column].to_pylist(), strict=True))


@pytest.fixture
def learnability(random_llama: str) -> Learnability:
    return Learnability(Model(name=random_llama), tokens_per_batch=512)


STRIP = Responses.model_validate({"thinking": "strip"})
KEEP = Responses.model_validate({"thinking": "keep"})
THOUGHT = ("p0", "<think>2 and 2</think>\n\n#### 4"), ("p1", "<think>2 and 3 is #### 5")


def test_learnability_is_matched_by_prompt_and_free_of_order(
    learnability: Learnability, prompts: Table, responses: Table
) -> None:
    asked = prompts(("2+2?", None), ("Say it.", None), ("Why?", None))
    said = responses(("p2", "Because of the rain."), ("p0", "4"), ("p1", "it"))
    table = learnability(asked, said)
    assert table.schema == LEARNABILITY
    scores = by_prompt(table, "learnability")
    assert all(isinstance(score, float) and score < 0 for score in scores.values())
    turned = learnability(asked, said.take([1, 2, 0]))
    assert by_prompt(turned, "learnability") == pytest.approx(scores)
    alone = learnability(asked, said.slice(1, 1))
    assert by_prompt(alone, "learnability")["p0"] == pytest.approx(scores["p0"])


def test_absent_and_empty_responses_have_no_learnability(
    learnability: Learnability, prompts: Table, responses: Table
) -> None:
    asked = prompts(("a", None), ("b", None), ("c", None))
    table = learnability(asked, responses(("p0", None), ("p1", ""), ("p2", "yes")))
    scores = by_prompt(table, "learnability")
    assert (scores["p0"], scores["p1"]) == (None, None)
    assert scores["p2"] is not None
    assert by_prompt(table, "num_tokens")["p0"] == 0


def test_learnability_is_that_of_what_the_student_sees(
    random_llama: str, learnability: Learnability, prompts: Table, responses: Table
) -> None:
    asked = prompts(("2+2?", "4"), ("2+3?", "5"))
    model, said = Model(name=random_llama), responses(*THOUGHT)
    stripped = by_prompt(Learnability(model, 512, responses=STRIP)(asked, said), "learnability")
    plain = learnability(asked, responses(("p0", "#### 4"), ("p1", "")))
    assert stripped == by_prompt(plain, "learnability")
    assert stripped["p1"] is None
    kept = by_prompt(Learnability(model, 512, responses=KEEP)(asked, said), "learnability")
    assert kept == by_prompt(learnability(asked, said), "learnability") != stripped


def test_what_exceeds_the_length_limit_is_null_and_not_cut(
    random_llama: str, learnability: Learnability, prompts: Table, responses: Table
) -> None:
    asked, said = prompts(("a", None)), responses(("p0", "b" * 50))
    example = encode_example(learnability.tokenizer, [{"role": "user", "content": "a"}], "b" * 50)
    exact = Learnability(Model(name=random_llama), 512, max_length=len(example.ids))
    short = Learnability(Model(name=random_llama), 512, max_length=len(example.ids) - 1)
    assert exact(asked, said)["learnability"].null_count == 0
    assert short(asked, said)["learnability"].null_count == 1
