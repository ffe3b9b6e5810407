"""The student's measures: matched by prompt, null where there is nothing to score."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from persyn_ray.method.learnability import STRETCH
from persyn_ray.models.chat import Example, encode_example
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.stages.learnability import Learnability, ToExamples
from persyn_ray.storage.schemas import LEARNABILITY

Table = Callable[..., pa.Table]


def by_prompt(table: pa.Table, column: str) -> dict[str, object]:
    return dict(zip(table["prompt_id"].to_pylist(), table[column].to_pylist(), strict=True))


@pytest.fixture
def learnability(random_llama: str) -> Learnability:
    return Learnability(StudentConfig(name=random_llama), tokens_per_batch=512)


STRIP = ResponsesConfig.model_validate({"thinking": "strip"})
KEEP = ResponsesConfig.model_validate({"thinking": "keep"})
THOUGHT = ("p0", "<think>2 and 2</think>\n\n#### 4"), ("p1", "<think>2 and 3 is #### 5")


def test_learnability_is_matched_by_prompt_and_free_of_order(
    learnability: Learnability, prompts: Table, responses: Table
) -> None:
    asked = prompts(("2+2?", None), ("Say it.", None), ("Why?", None))
    said = responses(("p2", "Because of the rain."), ("p0", "4"), ("p1", "it"))
    table = learnability(asked, said)
    assert table.schema == LEARNABILITY
    scores = by_prompt(table, "log_likelihood")
    assert all(isinstance(score, float) and score < 0 for score in scores.values())
    turned = learnability(asked, said.take([1, 2, 0]))
    assert by_prompt(turned, "log_likelihood") == pytest.approx(scores)
    alone = learnability(asked, said.slice(1, 1))
    assert by_prompt(alone, "log_likelihood")["p0"] == pytest.approx(scores["p0"])


def test_absent_and_empty_responses_have_no_learnability(
    learnability: Learnability, prompts: Table, responses: Table
) -> None:
    asked = prompts(("a", None), ("b", None), ("c", None))
    table = learnability(asked, responses(("p0", None), ("p1", ""), ("p2", "yes")))
    scores = by_prompt(table, "log_likelihood")
    assert (scores["p0"], scores["p1"]) == (None, None)
    assert by_prompt(table, "lowest_start") == {"p0": None, "p1": None, "p2": 0}
    assert scores["p2"] is not None
    assert by_prompt(table, "num_tokens")["p0"] == 0


def test_learnability_is_that_of_what_the_student_sees(
    random_llama: str, learnability: Learnability, prompts: Table, responses: Table
) -> None:
    asked = prompts(("2+2?", "4"), ("2+3?", "5"))
    model, said = StudentConfig(name=random_llama), responses(*THOUGHT)
    stripped = by_prompt(Learnability(model, 512, responses=STRIP)(asked, said), "log_likelihood")
    plain = learnability(asked, responses(("p0", "#### 4"), ("p1", "")))
    assert stripped == by_prompt(plain, "log_likelihood")
    assert stripped["p1"] is None
    kept = by_prompt(Learnability(model, 512, responses=KEEP)(asked, said), "log_likelihood")
    assert kept["p0"] == by_prompt(learnability(asked, said), "log_likelihood")["p0"]
    assert kept["p0"] != stripped["p0"]
    assert kept["p1"] is None  # thinking that never ends holds no answer


def test_what_exceeds_the_length_limit_is_null_and_not_cut(
    random_llama: str, learnability: Learnability, prompts: Table, responses: Table
) -> None:
    asked, said = prompts(("a", None)), responses(("p0", "b" * 50))
    example = encode_example(
        learnability.to_examples.tokenizer, [{"role": "user", "content": "a"}], "b" * 50
    )
    exact = Learnability(StudentConfig(name=random_llama), 512, max_length=len(example.ids))
    short = Learnability(StudentConfig(name=random_llama), 512, max_length=len(example.ids) - 1)
    assert exact(asked, said)["log_likelihood"].null_count == 0
    assert short(asked, said)["log_likelihood"].null_count == 1


def test_a_response_past_the_limit_is_cut_and_flagged_where_the_recipe_says_so(
    random_llama: str, learnability: Learnability, prompts: Table, responses: Table
) -> None:
    asked = prompts(("a", None), ("b" * 80, None))
    said = responses(("p0", "b" * 50), ("p1", "c"))
    example = encode_example(
        learnability.to_examples.tokenizer, [{"role": "user", "content": "a"}], "b" * 50
    )
    cut = Learnability(
        StudentConfig(name=random_llama), max_length=len(example.ids) - 20, too_long="truncate"
    )
    table = cut(asked, said)
    assert by_prompt(table, "is_truncated") == {"p0": True, "p1": False}
    assert by_prompt(table, "num_tokens") == {"p0": example.num_response_tokens - 20, "p1": 0}
    assert by_prompt(table, "log_likelihood")["p1"] is None  # its prompt alone is too long


def test_every_measure_is_of_the_tokens_that_training_sees(
    learnability: Learnability, prompts: Table, responses: Table
) -> None:
    asked, said = prompts(("2+2?", None)), responses(("p0", "4 it is"))
    (row,) = learnability(asked, said).to_pylist()
    example = encode_example(
        learnability.to_examples.tokenizer, asked["messages"][0].as_py(), "4 it is"
    )
    (scores,) = learnability.score([example], ["p0"])
    assert scores.entropies is not None
    assert row["num_tokens"] == len("4 it is") + 1
    assert row["log_likelihood"] == pytest.approx(scores.log_probs.mean())
    assert row["entropy"] == pytest.approx(scores.entropies.mean())
    mean_rank = np.minimum(scores.ranks, 100).mean()
    assert row["rank_surprisal"] == pytest.approx(-mean_rank / scores.log_probs.mean())
    assert row["lowest_window"] == row["log_likelihood"]  # shorter than a window
    assert (row["lowest_start"], row["lowest_end"]) == (0, len("4 it is"))
    assert row["local_log_likelihood"] is None


def test_the_least_likely_stretch_has_its_place_in_the_stored_response(
    random_llama: str, learnability: Learnability, prompts: Table, responses: Table
) -> None:
    """Against plain arithmetic: a token of this student is a byte."""
    asked, said = prompts(("2+2?", "4")), "It is é: " + "so we add 2 and 2, " * 4 + "4."
    thought = f"<think>Hm, {said}</think>\n\n{said}"
    both = responses(("p0", said)), responses(("p0", thought))
    stripping = Learnability(StudentConfig(name=random_llama), 512, responses=STRIP)
    plain, stripped = (
        stage(asked, one).to_pylist()[0]
        for stage, one in zip((learnability, stripping), both, strict=True)
    )
    example = encode_example(learnability.to_examples.tokenizer, asked["messages"][0].as_py(), said)
    (scores,) = learnability.score([example], ["p0"])
    means = [scores.log_probs[at : at + STRETCH].mean() for at in range(len(said.encode()) - 30)]
    first = int(np.argmin(means))
    at = len(said.encode()[:first].decode(errors="ignore"))
    assert plain["lowest_window"] == pytest.approx(means[first])
    assert plain["lowest_start"] == at
    assert plain["lowest_end"] in (at + STRETCH, at + STRETCH - 1)  # é takes two bytes
    before = len(thought) - len(said)
    assert stripped["lowest_start"] == at + before
    assert (
        thought[stripped["lowest_start"] : stripped["lowest_end"]]
        == (said[plain["lowest_start"] : plain["lowest_end"]])
    )


def test_local_likelihood_sees_only_the_few_tokens_before_each_window(
    random_llama: str, learnability: Learnability, prompts: Table, responses: Table
) -> None:
    asked, said = prompts(("2+2?", None)), responses(("p0", "abcdefghij"))
    local = Learnability(StudentConfig(name=random_llama), local_window=4)
    (row,) = local(asked, said).to_pylist()
    example = encode_example(
        learnability.to_examples.tokenizer, asked["messages"][0].as_py(), "abcdefghij"
    )
    ids, start = example.ids, example.num_prompt_tokens
    windows = [
        Example(ids[start - 4 : start + 4], 4),
        Example(ids[start : start + 8], 4),
        Example(ids[start + 4 : start + 11], 4),
    ]
    means = [s.log_probs.mean() for s in learnability.score(windows, ["1", "2", "3"])]
    assert row["local_log_likelihood"] == pytest.approx(sum(means) / 3)
    assert row["log_likelihood"] == pytest.approx(
        by_prompt(learnability(asked, said), "log_likelihood")["p0"]
    )


def test_the_students_template_settings_decide_what_counts_as_response(
    random_llama: str, prompts: Table, responses: Table
) -> None:
    """Qwen3 writes an empty thought into the response, or into the prompt if it shall not think."""
    template = (Path(__file__).parents[1] / "templates" / "qwen3.jinja").read_text()
    asked, said = prompts(("a", None)), responses(("p0", "yes"))
    by_default = StudentConfig(name=random_llama, chat_template=template)
    without = by_default.model_copy(update={"template_kwargs": {"enable_thinking": False}})
    (long,), (short,) = (ToExamples(student)(asked, said) for student in (by_default, without))
    assert long.example is not None
    assert short.example is not None
    assert long.example.ids == short.example.ids
    assert short.example.num_response_tokens == len("yes") + 1
    assert long.example.num_response_tokens > short.example.num_response_tokens


def test_a_response_is_scored_with_the_end_that_the_student_is_told_to_write(
    random_llama: str, prompts: Table, responses: Table
) -> None:
    asked, said = prompts(("1+1?", "2")), responses(("p0", "2"))
    by_default = ToExamples(StudentConfig(name=random_llama))
    told = ToExamples(StudentConfig(name=random_llama, end_of_turn="<|endoftext|>"))
    (plain,), (other,) = by_default(asked, said), told(asked, said)
    assert plain.example is not None
    assert other.example is not None
    ends = by_default.tokenizer.convert_ids_to_tokens(
        [plain.example.ids[-1], other.example.ids[-1]]
    )
    assert ends == ["<|im_end|>", "<|endoftext|>"]
    assert plain.example.ids[:-1] == other.example.ids[:-1]
