"""The two signals: matched by prompt, null where there is nothing to score."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from persyn_ray.config import ExactAnswer, ExactMatch, Responses, RewardModel
from persyn_ray.models.chat import encode_example
from persyn_ray.models.load import save_random
from persyn_ray.schemas import LEARNABILITY, QUALITY
from persyn_ray.sections import Model
from persyn_ray.stages.score import Learnability, Quality

Table = Callable[..., pa.Table]


def by_prompt(table: pa.Table, column: str) -> dict[str, object]:
    return dict(zip(table["prompt_id"].to_pylist(), table[column].to_pylist(), strict=True))


@pytest.fixture
def learnability(random_llama: str) -> Learnability:
    return Learnability(Model(name=random_llama), tokens_per_batch=512)


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


STRIP = Responses.model_validate({"thinking": "strip"})
KEEP = Responses.model_validate({"thinking": "keep"})
THOUGHT = ("p0", "<think>2 and 2</think>\n\n#### 4"), ("p1", "<think>2 and 3 is #### 5")


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


def test_quality_is_that_of_what_the_student_sees(
    tmp_path: Path, prompts: Table, responses: Table
) -> None:
    asked, said = prompts(("2+2?", "4"), ("2+3?", "5")), responses(*THOUGHT)
    marker = ExactMatch(kind="exact_match", marker="####")
    stripped = Quality(marker, STRIP)(asked, said)
    assert by_prompt(stripped, "outcome") == {"p0": "correct", "p1": "no_response"}
    assert by_prompt(stripped, "quality") == {"p0": 1.0, "p1": None}
    kept = Quality(marker, KEEP)(asked, said)
    assert by_prompt(kept, "outcome") == {"p0": "correct", "p1": "correct"}
    judge = RewardModel(kind="reward_model", model=Model(name=str(save_random("reward", tmp_path))))
    assert Quality(judge, STRIP)(asked, said) == Quality(judge)(
        asked, responses(("p0", "#### 4"), ("p1", ""))
    )


def test_what_exceeds_the_length_limit_is_null_and_not_cut(
    random_llama: str, learnability: Learnability, prompts: Table, responses: Table
) -> None:
    asked, said = prompts(("a", None)), responses(("p0", "b" * 50))
    example = encode_example(learnability.tokenizer, [{"role": "user", "content": "a"}], "b" * 50)
    exact = Learnability(Model(name=random_llama), 512, max_length=len(example.ids))
    short = Learnability(Model(name=random_llama), 512, max_length=len(example.ids) - 1)
    assert exact(asked, said)["learnability"].null_count == 0
    assert short(asked, said)["learnability"].null_count == 1


def test_exact_answers_are_right_wrong_or_absent(prompts: Table, responses: Table) -> None:
    asked = prompts(("2+2?", "4"), ("2+3?", "5"), ("1+1?", "2"), ("0+0?", "0"))
    said = responses(("p0", "2 + 2 = 4\n#### 4"), ("p1", "#### 6"), ("p2", None), ("p3", ""))
    table = Quality(ExactAnswer(kind="exact_answer"))(asked, said)
    assert table.schema == QUALITY
    assert by_prompt(table, "quality") == {"p0": 1.0, "p1": 0.0, "p2": None, "p3": None}
    assert by_prompt(table, "outcome") == {
        "p0": "correct",
        "p1": "wrong",
        "p2": "no_response",
        "p3": "no_response",
    }


def test_matched_answers_follow_the_marker(prompts: Table, responses: Table) -> None:
    asked = prompts(("a", "x y"), ("b", "z"), ("c", "z"))
    said = responses(("p0", "well # no # x y "), ("p1", "# y"), ("p2", "z"))
    table = Quality(ExactMatch(kind="exact_match", marker="#"))(asked, said)
    assert by_prompt(table, "outcome") == {"p0": "correct", "p1": "wrong", "p2": "no_answer"}


def test_a_reward_model_scores_what_there_is(
    tmp_path: Path, prompts: Table, responses: Table
) -> None:
    model = Model(name=str(save_random("reward", tmp_path)))
    quality = Quality(RewardModel(kind="reward_model", model=model))
    table = quality(prompts(("a", None), ("b", None)), responses(("p1", "yes"), ("p0", None)))
    assert by_prompt(table, "outcome") == {"p1": "scored", "p0": "no_response"}
    scores = by_prompt(table, "quality")
    assert isinstance(scores["p1"], float)
    assert scores["p0"] is None
