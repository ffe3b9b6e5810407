"""A local model run by transformers: the engine of a laptop, of tests and of small teachers.

Prompts are grouped by length, so that a batch is hardly padded. A prompt that leaves no room in the
model's context is refused; one that leaves less than `max_tokens` is answered within what is left.
A batch that fails is tried again row by row, and rows that fail alone become error completions.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from persyn_ray.config import Model, Sampling
from persyn_ray.engines.base import Completion, Request, with_system_prompt
from persyn_ray.engines.decoding import Draws, decode
from persyn_ray.errors import DataError
from persyn_ray.models.chat import encode_prompt
from persyn_ray.models.load import context_length, load_causal_lm, load_tokenizer, resolve

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """A request ready to be decoded; `place` is its position among the requests."""

    place: int
    prompt_id: str
    ids: list[int]
    limit: int


class TransformersEngine:
    """A causal language model in this process; tokenizer and weights are loaded when needed."""

    overlaps: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        model: Model,
        sampling: Sampling,
        batch_size: int = 64,
        system_prompt: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._name, self._source, self._sampling = name, model, sampling
        self._batch_size, self._system_prompt = batch_size, system_prompt
        self._template_kwargs = dict(template_kwargs or {})
        self._draws = Draws(sampling.temperature, sampling.top_p, sampling.seed)

    def refuses(self, request: Request) -> str | None:
        """Why chat template or context cannot take the conversation; reads the tokenizer only."""
        try:
            ids = self._encode(request)
        except DataError as error:
            return str(error)
        return self._overflow(len(ids))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Decode in batches of prompts of similar length.

        Raises:
            ConfigError: the model or its tokenizer cannot be loaded.
        """
        completions: dict[int, Completion] = {}
        jobs: list[_Job] = []
        for place, request in enumerate(requests):
            prepared = self._prepare(place, request)
            if isinstance(prepared, _Job):
                jobs.append(prepared)
            else:
                completions[place] = prepared
        jobs.sort(key=lambda job: len(job.ids))
        for start in range(0, len(jobs), self._batch_size):
            batch = jobs[start : start + self._batch_size]
            answers = self._answer(batch)
            completions |= {job.place: item for job, item in zip(batch, answers, strict=True)}
        return [completions[place] for place in range(len(requests))]

    def close(self) -> None:
        """Let go of the weights."""
        self.__dict__.pop("_model", None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        source = self._source
        return load_tokenizer(
            source.name, source.revision, source.chat_template, source.trust_remote_code
        )

    @cached_property
    def _context(self) -> int | None:
        config = AutoConfig.from_pretrained(
            resolve(self._source.name),
            revision=self._source.revision or "main",
            trust_remote_code=self._source.trust_remote_code,
        )
        return context_length(config)

    @cached_property
    def _model(self) -> PreTrainedModel:
        source = self._source
        model = load_causal_lm(source.name, source.dtype, source.revision, source.trust_remote_code)
        return model.to("cuda") if torch.cuda.is_available() else model  # pyright: ignore[reportArgumentType]

    @cached_property
    def _end_ids(self) -> frozenset[int]:
        """Ids that end a turn, by the generation config, the model's config or the tokenizer."""
        holders = (self._model.generation_config, self._model.config, self._tokenizer)
        ids: set[int] = set()
        for holder in holders:
            given: Any = getattr(holder, "eos_token_id", None)
            ids |= set(given) if isinstance(given, list | tuple) else {given} - {None}
        return frozenset(ids)

    def _encode(self, request: Request) -> list[int]:
        messages = with_system_prompt(request.messages, self._system_prompt)
        return encode_prompt(
            self._tokenizer,
            messages,  # pyright: ignore[reportArgumentType]
            template_kwargs=self._template_kwargs,
        )

    def _overflow(self, num_tokens: int) -> str | None:
        if self._context is None or num_tokens < self._context:
            return None
        return (
            f"prompt of {num_tokens} tokens leaves no room in the context of {self._context} "
            f"tokens of {self._name}"
        )

    def _prepare(self, place: int, request: Request) -> _Job | Completion:
        try:
            ids = self._encode(request)
        except DataError as error:
            return Completion.failed(str(error))
        overflow = self._overflow(len(ids))
        if overflow is not None:
            return Completion.failed(overflow, len(ids))
        room = self._sampling.max_tokens
        if self._context is not None:
            room = min(room, self._context - len(ids))
        return _Job(place, request.prompt_id, ids, room)

    def _answer(self, jobs: Sequence[_Job]) -> list[Completion]:
        model, end_ids = self._model, self._end_ids  # failing to load them is no fault of the rows
        try:
            rows = decode(
                model,
                [job.ids for job in jobs],
                [job.limit for job in jobs],
                end_ids,
                self._draws,
                [job.prompt_id for job in jobs],
            )
            return [self._completion(job, ids) for job, ids in zip(jobs, rows, strict=True)]
        except Exception as error:  # a bad row, or too little memory for the batch
            logger.warning("%s failed on %d prompts: %s", self._name, len(jobs), error)
            if len(jobs) == 1:
                return [Completion.failed(f"{type(error).__name__}: {error}", len(jobs[0].ids))]
        return [self._answer([job])[0] for job in jobs]

    def _completion(self, job: _Job, ids: list[int]) -> Completion:
        has_stopped = bool(ids) and ids[-1] in self._end_ids
        text = self._tokenizer.decode(ids[:-1] if has_stopped else ids, skip_special_tokens=True)
        reason = "stop" if has_stopped else "length"
        return Completion(str(text), reason, len(job.ids), len(ids))
