"""Quality: matched by prompt, null where there is nothing to judge."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file

from persyn_ray.checks.verifier import Verdict
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.models.load import save_random
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.scoring import (
    ExactAnswerConfig,
    ExactMatchConfig,
    InstructionsConfig,
    JudgeConfig,
    OutputPredictionConfig,
    RewardModelConfig,
    UnitTestsConfig,
)
from persyn_ray.stages.quality import Quality
from persyn_ray.storage.schemas import QUALITY

Table = Callable[..., pa.Table]


def by_prompt(table: pa.Table, column: str) -> dict[str, object]:
    return dict(zip(table["prompt_id"].to_pylist(), table[column].to_pylist(), strict=True))


STRIP = ResponsesConfig.model_validate({"thinking": "strip"})
KEEP = ResponsesConfig.model_validate({"thinking": "keep"})
THOUGHT = ("p0", "<think>2 and 2</think>\n\n#### 4"), ("p1", "<think>2 and 3 is #### 5")


def test_quality_is_that_of_what_the_student_sees(
    tmp_path: Path, prompts: Table, responses: Table
) -> None:
    asked, said = prompts(("2+2?", "4"), ("2+3?", "5")), responses(*THOUGHT)
    marker = ExactMatchConfig(kind="exact_match", marker="####")
    stripped = Quality(marker, STRIP)(asked, said)
    assert by_prompt(stripped, "outcome") == {"p0": "correct", "p1": "no_response"}
    assert by_prompt(stripped, "quality") == {"p0": 1.0, "p1": None}
    kept = Quality(marker, KEEP)(asked, said)
    # Thinking that never ends holds no answer.
    assert by_prompt(kept, "outcome") == {"p0": "correct", "p1": "no_response"}
    judge = RewardModelConfig(
        kind="reward_model", model=ModelConfig(name=str(save_random("reward", tmp_path)))
    )
    assert Quality(judge, STRIP)(asked, said) == Quality(judge)(
        asked, responses(("p0", "#### 4"), ("p1", ""))
    )


def test_programs_are_judged_by_their_tests_and_told_why_they_fail(
    prompts: Table, responses: Table
) -> None:
    tests = "assert twice(2) == 4"
    asked = prompts(("a", tests), ("b", tests), ("c", tests), ("d", tests))
    right = "```python\ndef twice(x):\n    return 2 * x\n```"
    said = responses(
        ("p0", right), ("p1", right.replace("2 *", "3 *")), ("p2", "No."), ("p3", None)
    )
    found = Quality(UnitTestsConfig(kind="unit_tests"))(asked, said)
    assert by_prompt(found, "quality") == {"p0": 1.0, "p1": 0.0, "p2": 0.0, "p3": None}
    assert by_prompt(found, "detail") == {
        "p0": None,
        "p1": "AssertionError",
        "p2": None,
        "p3": None,
    }


def test_predicted_outputs_are_compared_as_values(prompts: Table, responses: Table) -> None:
    asked = prompts(("f([1])?", "[1, 'a']"), ("f(2)?", "2"))
    said = responses(("p0", '{"answer": [1, "a"]}'), ("p1", "It returns 3"))
    found = Quality(OutputPredictionConfig(kind="output_prediction"))(asked, said)
    assert by_prompt(found, "quality") == {"p0": 1.0, "p1": 0.0}


def test_exact_answers_are_right_wrong_or_absent(prompts: Table, responses: Table) -> None:
    asked = prompts(("2+2?", "4"), ("2+3?", "5"), ("1+1?", "2"), ("0+0?", "0"))
    said = responses(("p0", "2 + 2 = 4\n#### 4"), ("p1", "#### 6"), ("p2", None), ("p3", ""))
    table = Quality(ExactAnswerConfig(kind="exact_answer"))(asked, said)
    assert table.schema == QUALITY
    assert table["detail"].null_count == 4
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
    table = Quality(ExactMatchConfig(kind="exact_match", marker="#"))(asked, said)
    assert by_prompt(table, "outcome") == {"p0": "correct", "p1": "wrong", "p2": "no_answer"}


def test_instructions_are_checked_against_the_reference(
    prompts: Table, responses: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follows(response: str, reference: str, loose: bool) -> Verdict:
        return Verdict(f"{response}/{reference}/{loose}", 1.0)

    checker = SimpleNamespace(follows=follows)
    monkeypatch.setitem(sys.modules, "persyn_ray.checks.ifeval", checker)
    quality = Quality(InstructionsConfig(kind="instructions", loose=True))
    table = quality(prompts(("a", "[]")), responses(("p0", "said")))
    assert table["outcome"].to_pylist() == ["said/[]/True"]


def test_a_reward_model_scores_what_there_is(
    tmp_path: Path, prompts: Table, responses: Table
) -> None:
    model = ModelConfig(name=str(save_random("reward", tmp_path)))
    quality = Quality(RewardModelConfig(kind="reward_model", model=model))
    table = quality(prompts(("a", None), ("b", None)), responses(("p1", "yes"), ("p0", None)))
    assert by_prompt(table, "outcome") == {"p1": "scored", "p0": "no_response"}
    scores = by_prompt(table, "quality")
    assert isinstance(scores["p1"], float)
    assert scores["p0"] is None


def test_a_reward_model_that_gives_no_number_is_named_with_the_row(
    tmp_path: Path, prompts: Table, responses: Table
) -> None:
    folder = save_random("reward", tmp_path)
    weights = load_file(folder / "model.safetensors")
    name = "score.weight"
    save_file(weights | {name: weights[name] * float("nan")}, folder / "model.safetensors")
    quality = Quality(RewardModelConfig(kind="reward_model", model=ModelConfig(name=str(folder))))
    with pytest.raises(DataError, match="nan for prompt p1 of teacher t") as refused:
        quality(prompts(("a", None), ("b", None)), responses(("p0", None), ("p1", "yes")))
    assert str(folder) in str(refused.value)


def test_nothing_to_judge_loads_and_asks_nothing(prompts: Table, responses: Table) -> None:
    engine = {"kind": "transformers", "model": {"name": "/no/where.gguf"}}
    quality = Quality(JudgeConfig.model_validate({"kind": "judge", "engine": engine}))
    table = quality(prompts(("a", None)), responses(("p0", None)))
    assert table["outcome"].to_pylist() == ["no_response"]
    assert quality(prompts(), responses()).num_rows == 0
    with pytest.raises(ConfigError):
        quality(prompts(("a", None)), responses(("p0", "x")))


@pytest.mark.parametrize("section", [KEEP, STRIP])
def test_checks_judge_what_follows_the_thinking_whatever_the_student_sees(
    section: ResponsesConfig, prompts: Table, responses: Table
) -> None:
    asked = prompts(("2+5?", "7"), ("2+5?", "5"), ("2+5?", "7"), ("2+5?", "7"))
    thought = "<think>So \\boxed{5}, one, two, three.</think> The answer is 7."
    said = responses(
        ("p0", thought), ("p1", thought), ("p2", "<think>\\boxed{7}"), ("p3", "\u200b")
    )
    table = Quality(ExactAnswerConfig(kind="exact_answer"), section)(asked, said)
    expected = {"p0": "correct", "p1": "wrong", "p2": "no_response", "p3": "no_response"}
    assert by_prompt(table, "outcome") == expected
    rule = '[{"id": "punctuation:no_comma"}]'
    asked, said = prompts(("Say 7.", rule)), responses(("p0", thought))
    table = Quality(InstructionsConfig(kind="instructions"), section)(asked, said)
    assert by_prompt(table, "outcome") == {"p0": "correct"}
