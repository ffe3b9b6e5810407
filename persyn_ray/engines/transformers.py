"""Engine on transformers, for CPUs, tests and small teachers.

Prompts are grouped by length, so that a batch is hardly padded. A prompt that leaves no room in the
model's context is refused; one that leaves less than `max_tokens` is answered within what is left.
A batch for which memory is too small is halved, with a warning. One whose logits are no numbers is
tried again row by row, and rows that fail alone become error completions. All else is raised.
Stop texts are no part of a response. There is no budget for thinking apart from the response's.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from transformers import PreTrainedModel

from persyn_ray.engines.base import Completion, Request
from persyn_ray.engines.decoding import Draws, Stops, decode
from persyn_ray.engines.prompting import Encoded, PromptEncoder
from persyn_ray.errors import ConfigError, StepError
from persyn_ray.models.load import is_out_of_memory, load_causal_lm
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.teachers import SamplingConfig

logger = logging.getLogger(__name__)


class TransformersEngine:
    """A causal language model in this process; tokenizer and weights are loaded when needed."""

    overlaps: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        model: ModelConfig,
        sampling: SamplingConfig,
        batch_size: int = 64,
        system_prompt: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        end_of_turn: str | None = None,
    ) -> None:
        self._name, self._source, self._sampling = name, model, sampling
        self._batch_size = batch_size
        self._prompts = PromptEncoder(
            name,
            model,
            sampling.max_tokens,
            system_prompt,
            template_kwargs,
            end_of_turn=end_of_turn,
        )
        self._draws = Draws(sampling.temperature, sampling.top_p, sampling.seed)

    def check(self) -> None:
        """Refuse a model that is not there or has no chat template, and a budget for thinking."""
        if self._sampling.thinking_tokens is not None:
            raise ConfigError(
                f"Teacher {self._name!r} has sampling.thinking_tokens "
                f"{self._sampling.thinking_tokens}, which engine.kind transformers cannot keep to: "
                "remove it, or use engine.kind vllm or openai."
            )
        self._prompts.check()

    def refuses(self, request: Request) -> str | None:
        """Why chat template or context cannot take the conversation; reads the tokenizer only."""
        return self._prompts.refuses(request)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Decode in batches of prompts of similar length.

        Raises:
            ConfigError: the model or its tokenizer cannot be loaded.
        """
        completions: dict[int, Completion] = {}
        jobs: dict[int, Encoded] = {}
        for place, request in enumerate(requests):
            encoded = self._prompts.encode(request)
            if isinstance(encoded, Encoded):
                jobs[place] = encoded
            else:
                completions[place] = encoded
        waiting = sorted(jobs, key=lambda place: len(jobs[place].ids))
        while waiting:
            batch, rest = waiting[: self._batch_size], waiting[self._batch_size :]
            answers = self._answered([jobs[place] for place in batch])
            if answers is not None:
                completions |= dict(zip(batch, answers, strict=True))
                waiting = rest
        return [completions[place] for place in range(len(requests))]

    def close(self) -> None:
        """Let go of the weights."""
        self.__dict__.pop("_model", None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @cached_property
    def _model(self) -> PreTrainedModel:
        source = self._source
        model = load_causal_lm(source.name, source.dtype, source.revision, source.trust_remote_code)
        return model.to("cuda") if torch.cuda.is_available() else model  # pyright: ignore[reportArgumentType]

    @cached_property
    def _stops(self) -> Stops | None:
        """Texts that end a response, as this tokenizer would write them."""
        if not self._sampling.stop:
            return None
        return Stops(
            self._sampling.stop,
            lambda rows: self._prompts.tokenizer.batch_decode(rows, skip_special_tokens=True),
        )

    def _answered(self, jobs: Sequence[Encoded]) -> list[Completion] | None:
        """A batch's completions; None where it was too large for the memory, and is now halved."""
        _ = self._model  # without memory for the weights, fewer prompts are of no help
        try:
            return self._answer(jobs)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(jobs) == 1:
                raise StepError(
                    f"{self._name} has not enough memory for one response of {jobs[0].limit} "
                    f"tokens to a prompt of {len(jobs[0].ids)} tokens: set a lower `max_tokens`, a "
                    f"`dtype` of 16 bits, or give it more memory. {error}"
                ) from error
            self._batch_size = len(jobs) // 2
            logger.warning(
                "%s has not enough memory for %d prompts at once and goes on with %d (set "
                "`batch_size`): %s",
                self._name,
                len(jobs),
                self._batch_size,
                error,
            )
        # Only here are the failed batch's tensors let go of.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _answer(self, jobs: Sequence[Encoded]) -> list[Completion]:
        try:
            rows = decode(
                self._model,
                [job.ids for job in jobs],
                [job.limit for job in jobs],
                self._prompts.end_ids,
                self._draws,
                [job.prompt_id for job in jobs],
                self._stops,
            )
        except ArithmeticError as error:  # of one row: the others have to be asked without it
            logger.warning("%s failed on %d prompts: %s", self._name, len(jobs), error)
            if len(jobs) == 1:
                return [Completion.failed(f"{type(error).__name__}: {error}", len(jobs[0].ids))]
            return [self._answer([job])[0] for job in jobs]
        return [self._completion(job, ids) for job, ids in zip(jobs, rows, strict=True)]

    def _completion(self, job: Encoded, ids: list[int]) -> Completion:
        has_ended = bool(ids) and ids[-1] in self._prompts.end_ids
        text = self._prompts.text(ids)
        place = None if self._stops is None else self._stops.place(text)
        reason = "length" if place is None and not has_ended else "stop"
        return Completion(text[:place], reason, len(job.ids), len(ids))
