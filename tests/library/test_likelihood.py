"""Likelihood of texts under a student, against the model's own forward pass."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import persyn_ray as persyn
from persyn_ray.models.chat import encode_example
from persyn_ray.models.load import load_causal_lm, load_tokenizer

PROMPTS = ["What is 2+2?", "Say a", "What is 2+2?", "Name a colour"]
RESPONSES = ["It is 4.", "a", "Five, I think; or rather four.", "red"]


@pytest.fixture(scope="module")
def student(random_llama: str) -> persyn.Likelihood:
    return persyn.Likelihood(random_llama)


def by_hand(folder: str, prompt: str, response: str) -> torch.Tensor:
    """Log-probabilities of the response's tokens, from a plain forward pass."""
    model, tokenizer = load_causal_lm(folder), load_tokenizer(folder)
    example = encode_example(tokenizer, [{"role": "user", "content": prompt}], response)
    with torch.no_grad():
        logits: Any = model(torch.tensor([example.ids])).logits[0].double()
    log_probs = logits.log_softmax(-1)[:-1].gather(1, torch.tensor(example.ids)[1:, None])[:, 0]
    return log_probs[example.num_prompt_tokens - 1 :]


def test_the_mean_is_that_of_the_model_s_own_log_probabilities(
    student: persyn.Likelihood, random_llama: str
) -> None:
    found = student.score(PROMPTS, RESPONSES, per_token=True)
    assert found.mean_log_likelihood.shape == found.num_tokens.shape == (4,)
    assert found.per_token is not None
    for place, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        expected = by_hand(random_llama, prompt, response)
        assert found.num_tokens[place] == len(expected)
        assert found.mean_log_likelihood[place] == pytest.approx(float(expected.mean()), abs=1e-4)
        tokens = found.per_token[place]
        assert tokens is not None
        np.testing.assert_allclose(tokens.log_probs, expected, atol=1e-3)
        assert len(tokens.tokens) == len(tokens.ranks) == len(expected)
    assert student.score(PROMPTS, RESPONSES).per_token is None


def test_order_and_company_of_the_pairs_change_nothing(student: persyn.Likelihood) -> None:
    whole = student.score(PROMPTS, RESPONSES).mean_log_likelihood
    turned = student.score(PROMPTS[::-1], RESPONSES[::-1]).mean_log_likelihood
    alone = [
        student.score([p], [r]).mean_log_likelihood[0]
        for p, r in zip(PROMPTS, RESPONSES, strict=True)
    ]
    np.testing.assert_allclose(whole, turned[::-1], atol=1e-5)
    np.testing.assert_allclose(whole, alone, atol=1e-5)


def test_conversations_and_columns_of_tables_are_prompts(student: persyn.Likelihood) -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "What is 2+2?"},
    ]
    as_list = student.score([talk], ["4"]).mean_log_likelihood
    column = pa.array([talk]), pa.array(["4"])
    np.testing.assert_array_equal(student.score(*column).mean_log_likelihood, as_list)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"prompt": PROMPTS, "response": RESPONSES})
    np.testing.assert_array_equal(
        student.score(frame["prompt"], frame["response"]).mean_log_likelihood,
        student.score(PROMPTS, RESPONSES).mean_log_likelihood,
    )


def test_what_cannot_be_scored_is_nan_with_its_reason(random_llama: str) -> None:
    short = persyn.Likelihood(random_llama, max_length=48)
    long = "very " * 60
    found = short.score(["a", "b", "c", "d"], ["fine", None, "", long], per_token=True)
    assert found.outcomes == ("scored", "no_response", "no_response", "too_long")
    assert np.isnan(found.mean_log_likelihood).tolist() == [False, True, True, True]
    assert found.num_tokens.tolist()[1:] == [0, 0, 0]
    assert found.per_token is not None
    assert found.per_token[1] is None
    cut = persyn.Likelihood(random_llama, max_length=48, too_long="truncate")
    assert cut.score(["d"], [long]).num_tokens[0] > 0
    assert short.score([], []).mean_log_likelihood.shape == (0,)


def test_wrong_prompts_and_numbers_are_refused_with_their_place(student: persyn.Likelihood) -> None:
    for prompts, responses, why in (
        (["a"], ["b", "c"], "1 prompts and 2 responses"),
        (["a", " "], ["b", "c"], "Prompt 1 is empty"),
        (["a", 3], ["b", "c"], "Prompt 1 is 3"),
        ([[{"role": "assistant", "content": "x"}]], ["b"], "Prompt 0: .*no user message"),
        ("a text", ["b"], "Prompts are a str"),
        (["a"], pa.table({"response": ["b"]}), "Responses are a Table"),
    ):
        with pytest.raises(persyn.DataError, match=why):
            student.score(prompts, responses)
    with pytest.raises(persyn.ConfigError, match="No model at"):
        persyn.Likelihood(str(Path("absent/model")) + "/x/y")
