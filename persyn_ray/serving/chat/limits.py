"""Checks and completes the token limits of a forwarded chat before it is sent."""

from collections.abc import Mapping
from typing import Any

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.serving import ServingConfig, UpstreamConfig
from persyn_ray.recipe.teachers import BYTES_PER_TOKEN
from persyn_ray.serving.error_response import Refusal

TOKENS, NEW_TOKENS = "max_tokens", "max_completion_tokens"
TOKEN_FIELDS = (TOKENS, NEW_TOKENS, "max_new_tokens", "max_output_tokens", "n_predict")
"""OpenAI's two names of the limit, and those that other servers read before them."""
CHOICE_FIELDS = ("n", "best_of", "n_cmpl")
PRICED = frozenset({"models", "plugins", "provider", "service_tier", "web_search_options"})
"""With these a request would name another model, or what is billed beside its tokens."""
READ = PRICED | {*TOKEN_FIELDS, *CHOICE_FIELDS, "model", "messages", "stream", "stream_options"}
LONGEST_SHOWN = 40


def bounded_chat(
    body: Mapping[str, Any], upstream: UpstreamConfig, settings: ServingConfig
) -> tuple[dict[str, object], int]:
    """A chat's fields for a teacher, and the most tokens that may be written for it.

    A limit that the teacher's `extra_body` states holds too; the smallest is sent, in the field
    that the `extra_body` uses, else in those of the request.

    Args:
        body: The client's fields without nulls.

    Raises:
        Refusal: 422 for a limit that is none, or above serving.max_chat_tokens or max_choices.
    """
    _require_own_names(body)
    stated = _checked(body, TOKEN_FIELDS, settings.max_chat_tokens, "serving.max_chat_tokens")
    _checked(body, CHOICE_FIELDS, settings.max_choices, "serving.max_choices")
    ours = upstream.extra_body
    limits = [*stated.values(), *_numbers(ours, TOKEN_FIELDS), settings.max_chat_tokens]
    given = {k: v for k, v in {**body, **ours}.items() if v is not None}
    content = {name: value for name, value in given.items() if name not in TOKEN_FIELDS}
    for name in CHOICE_FIELDS:
        if name in content:
            content[name] = min(content[name], settings.max_choices)
    content |= dict.fromkeys(_token_fields(stated, ours), min(limits))
    num_choices = max([content[name] for name in CHOICE_FIELDS if name in content], default=1)
    return {**content, "model": upstream.model}, min(limits) * num_choices


def require_limits(teacher: str, upstream: UpstreamConfig) -> None:
    """Refuse an `extra_body` whose limits are no numbers.

    Raises:
        ConfigError: with the setting.
    """
    for name in (*TOKEN_FIELDS, *CHOICE_FIELDS):
        value = upstream.extra_body.get(name)
        if value is not None and not _is_count(value):
            raise ConfigError(
                f"serving.upstreams.{teacher}.extra_body.{name} is {_shown(value)}; it must be a "
                "whole number of 1 or more, or null."
            )


def require_short(teacher: str, upstream: UpstreamConfig, content: bytes) -> None:
    """Refuse a request that is longer than the upstream's prompts may be, by four bytes a token.

    Raises:
        Refusal: 422.
    """
    most = upstream.max_prompt_tokens
    if most is not None and len(content) / BYTES_PER_TOKEN > most:
        raise Refusal(
            422,
            f"The chat has {len(content)} bytes; max_prompt_tokens of teacher {teacher!r} is {most}"
            f", of {BYTES_PER_TOKEN} bytes each.",
        )


def _require_own_names(body: Mapping[str, Any]) -> None:
    if priced := sorted(PRICED & body.keys()):
        raise Refusal(422, f"{priced} cannot be asked for here: whoever serves chooses them.")
    for name in body:
        # Some servers read names in any case, and the last of those that are alike.
        if name not in READ and (meant := name.casefold()) in READ:
            raise Refusal(422, f"Write the field {meant!r} in small letters.")


def _checked(
    body: Mapping[str, Any], names: tuple[str, ...], bound: int, setting: str
) -> dict[str, int]:
    """The limits that a request states; null counts as none."""
    stated = {name: body[name] for name in names if body.get(name) is not None}
    for name, value in stated.items():
        if not _is_count(value) or value > bound:
            raise Refusal(
                422, f"{name} is {_shown(value)}; it can be 1 to {bound} ({setting}), whole."
            )
    return stated


def _numbers(fields: Mapping[str, Any], names: tuple[str, ...]) -> list[int]:
    return [fields[name] for name in names if fields.get(name) is not None]


def _token_fields(stated: Mapping[str, int], ours: Mapping[str, Any]) -> list[str]:
    """Where the limit stands: some servers refuse the one name, others do not read the other."""
    if said := [name for name in TOKEN_FIELDS if ours.get(name) is not None]:
        return said
    if TOKENS in ours:  # set to null: not to be sent
        return [NEW_TOKENS]
    if NEW_TOKENS in ours:
        return [TOKENS]
    return [name for name in (TOKENS, NEW_TOKENS) if name in stated] or [TOKENS]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
