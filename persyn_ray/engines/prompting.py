"""Tokenises conversations into prompt ids, for engines that take token ids.

One place decides what a teacher reads and how much room is left, so that the same teacher under
another engine sees the same ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import AutoConfig, GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from persyn_ray.engines.base import Completion, Request, with_system_prompt
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.models.chat import encode_prompt
from persyn_ray.models.load import context_length, load_tokenizer, resolve
from persyn_ray.models.templates.end_of_turn import end_of_turn
from persyn_ray.recipe.base import ModelConfig


@dataclass(frozen=True)
class Encoded:
    """A request as ids, and the most tokens its response may have."""

    prompt_id: str
    ids: list[int]
    limit: int


class PromptEncoder:
    """What a teacher reads; tokenizer and configuration are loaded when needed, never weights.

    Args:
        name: the teacher's name, for messages.
        max_tokens: the teacher's own limit of a response.
        max_model_len: a context shorter than the model's.
        end_of_turn: control token that ends a response; by default what the chat template writes.
    """

    def __init__(
        self,
        name: str,
        model: ModelConfig,
        max_tokens: int,
        system_prompt: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        max_model_len: int | None = None,
        end_of_turn: str | None = None,
    ) -> None:
        self._name, self._source, self._max_tokens = name, model, max_tokens
        self._system_prompt, self._max_model_len = system_prompt, max_model_len
        self._template_kwargs = dict(template_kwargs or {})
        self._end_of_turn = end_of_turn

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The teacher's tokenizer with the chat template that the recipe asks for."""
        source = self._source
        return load_tokenizer(
            source.name, source.revision, source.chat_template, source.trust_remote_code
        )

    @cached_property
    def config(self) -> PreTrainedConfig:
        """The model's configuration."""
        try:
            return AutoConfig.from_pretrained(
                resolve(self._source.name),
                revision=self._source.revision or "main",
                trust_remote_code=self._source.trust_remote_code,
            )
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"Teacher {self._name!r}: no usable model {self._source.name!r}: {error} "
                "Set `engine.model.name` to a folder or a hub name."
            ) from error

    @cached_property
    def context(self) -> int | None:
        """Longest prompt + response."""
        lengths = (context_length(self.config), self._max_model_len)
        return min((length for length in lengths if length is not None), default=None)

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Ids that end a turn, by chat template, generation config, model config or tokenizer."""
        try:
            generation = GenerationConfig.from_pretrained(
                resolve(self._source.name), revision=self._source.revision or "main"
            )
        except OSError:
            generation = None
        ids = self._template_end()
        for holder in (generation, self.config, self.tokenizer):
            given: Any = getattr(holder, "eos_token_id", None)
            ids |= set(given) if isinstance(given, list | tuple) else {given} - {None}
        return frozenset(ids)

    def _template_end(self) -> set[int]:
        """What the setting or the template says; some templates answer no conversation at all."""
        try:
            return {end_of_turn(self.tokenizer, self._end_of_turn, self._template_kwargs)}
        except ConfigError:
            if self._end_of_turn is not None:
                raise
            return set()

    def text(self, ids: Sequence[int]) -> str:
        """What ids say, without control tokens and the end of the turn."""
        has_ended = bool(ids) and ids[-1] in self.end_ids
        written = list(ids[:-1] if has_ended else ids)
        return str(self.tokenizer.decode(written, skip_special_tokens=True))

    def check(self) -> None:
        """Refuse a model that is not there, has no chat template or not this end of a turn.

        Raises:
            ConfigError: naming teacher and setting.
        """
        _ = self.context
        if self.tokenizer.chat_template is None:
            raise ConfigError(
                f"Teacher {self._name!r}: {self._source.name!r} has no chat template. Give "
                "one as Jinja text in `engine.model.chat_template`, or choose an instruct model."
            )
        self._template_end()

    def refuses(self, request: Request) -> str | None:
        """Why chat template or context cannot take the conversation."""
        encoded = self.encode(request)
        return encoded.error if isinstance(encoded, Completion) else None

    def encode(self, request: Request) -> Encoded | Completion:
        """The request as ids, or why it cannot be answered."""
        messages = with_system_prompt(request.messages, self._system_prompt)
        try:
            ids = encode_prompt(
                self.tokenizer,
                messages,  # pyright: ignore[reportArgumentType]
                template_kwargs=self._template_kwargs,
            )
        except DataError as error:
            return Completion.failed(str(error))
        limit = request.max_tokens or self._max_tokens
        if self.context is None:
            return Encoded(request.prompt_id, ids, limit)
        room = self.context - len(ids)
        if room < 1:
            return Completion.failed(
                f"prompt of {len(ids)} tokens leaves no room in the context of {self.context} "
                f"tokens of {self._name}",
                len(ids),
            )
        return Encoded(request.prompt_id, ids, min(limit, room))
