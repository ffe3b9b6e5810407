"""Packed scoring by flex attention on a GPU, beside the model's own forward pass."""

import pytest

from persyn_ray.models.chat import Message, encode_example
from persyn_ray.models.likelihood import Likelihood
from persyn_ray.models.load import load_causal_lm, load_tokenizer
from persyn_ray.models.reference import plain_log_probs
from persyn_ray.statistics.parity import compare

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
# Without a window, with windows, with windows and capped scores.
MODELS = ("Qwen/Qwen2.5-0.5B-Instruct", "google/gemma-3-270m-it", "google/gemma-2-2b-it")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("dtype", "gap"), [("float32", 1e-3), ("bfloat16", 0.5)])
def test_packed_scores_are_the_models_own(name: str, dtype: str, gap: float) -> None:
    tokenizer, model = load_tokenizer(name), load_causal_lm(name, dtype).to("cuda")
    prompts = ["What is 2 plus 2?", "Name a long river and say where it runs."]
    answers = ["Four.", "The Nile. " * 3, "It runs through many countries. " * 200]
    asked = [(prompt, answer) for prompt in prompts for answer in answers]
    examples = [
        encode_example(tokenizer, [Message(role="user", content=prompt)], answer)
        for prompt, answer in asked
    ]
    likelihood = Likelihood(model)
    assert likelihood.is_packed
    found = [scores.log_probs for scores in likelihood(examples)]
    plain = [plain_log_probs(model, example) for example in examples]
    assert compare(plain, found, [prompt for prompt, _ in asked]).max_gap < gap
