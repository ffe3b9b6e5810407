"""Learnability backend on vLLM: log-likelihoods of responses from prompt_logprobs.

vLLM gives the log-probability and rank of every token of a text (`prompt_logprobs`), and no
entropy; a rank counts the token itself and its equals, so of equals it is the worst. Every response
is a request of its own and the prompt is read anew for each: requests that ask for log-
probabilities do not use the prefix cache. It serves students that need several GPUs; otherwise
packed scoring is faster. What both make of the same responses is compared by `persyn doctor`.

vLLM is imported when the first responses are scored. This module does not tokenise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from persyn_ray.engines.vllm import require_vllm
from persyn_ray.engines.vllm_host import EngineLog, cpu_defaults, has_no_gpu
from persyn_ray.errors import DataError, EngineDead
from persyn_ray.models.chat import Example
from persyn_ray.models.likelihood import TokenScores
from persyn_ray.models.load import resolve
from persyn_ray.recipe.base import ModelConfig

CHUNK_TOKENS = 2048
"""Tokens of one step of the engine. The logits of all of them are formed at once, which vLLM leaves
out of its own reckoning of memory."""

SPARE_TOKENS = 1
"""Room in the context for the token that every request draws and throws away."""


class VllmLikelihood:
    """A student under vLLM, made ready for scoring responses."""

    def __init__(
        self,
        student: ModelConfig,
        tokens_per_batch: int = 8192,
        arguments: Mapping[str, Any] | None = None,
        max_length: int | None = None,
    ) -> None:
        require_vllm("scoring.backend vllm")
        self.student, self.arguments, self.max_length = student, arguments or {}, max_length
        self.num_tokens = min(tokens_per_batch, CHUNK_TOKENS)
        self._engine: Any = None
        self._log = EngineLog()

    def __call__(
        self, examples: Sequence[Example], names: Sequence[str] | None = None
    ) -> list[TokenScores]:
        """Scores of every example's response tokens, in input order; `names` are for errors.

        Raises:
            DataError: a log-probability is not finite, or an example has no prompt.
            EngineDead: the engine did not start, or has died.
        """
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        names = names or [f"Row {row}" for row in range(len(examples))]
        for example, name in zip(examples, names, strict=True):
            if example.num_prompt_tokens < 1:
                raise DataError(f"{name} has no prompt tokens: nothing predicts its first token.")
        full = [row for row, example in enumerate(examples) if example.num_response_tokens]
        asked = [TokensPrompt(prompt_token_ids=examples[row].ids) for row in full]
        parameters = SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=0, flat_logprobs=True, detokenize=False
        )
        found = [TokenScores(np.empty(0), np.empty(0, dtype=np.int64), None)] * len(examples)
        if asked:
            engine = self._started()
            try:
                outputs = engine.generate(asked, parameters, use_tqdm=False)
            except Exception as error:
                raise EngineDead(
                    f"vLLM failed under scoring.backend vllm: {self._log.cause_of(error)}"
                ) from error
            for row, output in zip(full, outputs, strict=True):
                found[row] = _scores(output.prompt_logprobs, examples[row], names[row])
        return found

    def close(self) -> None:
        """End the engine."""
        if self._engine is not None:
            self._engine.llm_engine.engine_core.shutdown()
            self._engine = None

    def _started(self) -> Any:
        from vllm import LLM

        if self._engine is None:
            student = self.student
            ours: dict[str, Any] = {
                "model": resolve(student.name),
                "revision": student.revision,
                "dtype": student.dtype,
                "trust_remote_code": student.trust_remote_code,
                "max_num_batched_tokens": self.num_tokens,
                "enable_chunked_prefill": True,
                "enable_prefix_caching": False,
                "generation_config": "vllm",
                "disable_log_stats": True,
            }
            if self.max_length is not None:
                ours["max_model_len"] = self.max_length + SPARE_TOKENS
            if has_no_gpu():
                ours = cpu_defaults(ours | dict(self.arguments)) | ours
            try:
                self._engine = LLM(**(ours | dict(self.arguments)))
            except Exception as error:
                raise EngineDead(
                    f"vLLM did not start for scoring.backend vllm: {self._log.cause_of(error)}"
                ) from error
        return self._engine


def _scores(flat: Any, example: Example, name: str) -> TokenScores:
    """What vLLM says of the response's tokens; the first entry of a position is the token's own."""
    places = [flat.start_indices[at] for at in range(example.num_prompt_tokens, len(example.ids))]
    told = [flat.token_ids[place] for place in places]
    assert told == example.ids[example.num_prompt_tokens :], "vLLM speaks of other tokens"
    log_probs = np.array([flat.logprobs[place] for place in places], dtype=np.float64)
    broken = np.flatnonzero(~np.isfinite(log_probs))
    if broken.size:
        raise DataError(
            f"vLLM gives {log_probs[broken[0]]} for token {broken[0]} of the response of {name}: "
            "the model overflows or its weights are broken (`student.dtype`)."
        )
    return TokenScores(log_probs, np.array([flat.ranks[place] for place in places]), None)
