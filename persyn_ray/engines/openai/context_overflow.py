"""Parses context-length errors of endpoints: how many response tokens would fit.

Servers count the prompt's tokens exactly and say so in a refusal, which costs nothing:

    room = context - prompt

Known are the words of OpenAI, vLLM, SGLang, llama.cpp, TGI, Anthropic, Mistral, Gemini, Cohere,
OpenRouter, Groq and those that copy them. Pure.
"""

import re
from dataclasses import dataclass

from persyn_ray.engines.openai.error_kinds import Complaint

CODES = frozenset(
    {
        "context_length_exceeded",
        "exceed_context_size_error",
        "context_window_exceeded",
        "string_above_max_length",
        "model_max_prompt_tokens_exceeded",
    }
)
_N = r"(\d[\d,]*)"


def _patterns(*texts: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(text.replace("N", _N)) for text in texts)


CONTEXT = _patterns(
    r"context (?:length|window|size) (?:is|of)(?: only)? N",
    r"context (?:length|window|size):? \(?N",
    r"(?:with|loaded with) context length of only N",
    r"N maximum context",
    r"model length of N",
    r"`max_new_tokens` must be <= N",
    r"> N maximum",
    r"context limit: \d+ \+ \d+ > N",
    r"number of tokens allowed \(N\)",
    r"(?:tokens|prompt) cannot exceed N",
    r"`inputs` must have less than N tokens",
    r"input length should be \[1, N\]",
)
PROMPT = _patterns(
    r"\(N in (?:the messages|your prompt)",
    r"N of text input",
    r"(?:messages|prompt) resulted in N",
    r"(?:has|have|passed|contains) (?:at least )?N (?:input )?tokens",
    r"given: N `inputs`",
    r"prompt is too long:? N",
    r"request \(N tokens\)",
    r"N tokens from the input",
    r"input \(N tokens\)",
    r"prompt \(length N\)",
    r"context limit: N \+",
    r"token count \(N\)",
    r"received N",
    r"given: N\b",
)
TOTAL = _patterns(
    r"requested (?:a total of |about )?N tokens", r"requested tokens \(N\)", r"total of N tokens"
)
MOST = _patterns(
    r"at most N (?:completion|output) tokens",
    r"max\w*tokens\w*`?:? \d+ > N, which is the maximum allowed number of output tokens",
    r"max_tokens(?: is)? \[1, N\]",
    r"max_tokens should be \[1, N\]",
    r"`?max\w*tokens`? must be less than or equal to `?N",
    r"max\w*tokens.{0,40} supported range is from 1 \(inclusive\) to N \(exclusive\)",
)
IS_LONG = re.compile(
    r"context[ _](length|window|size|limit)|maximum model length|(prompt|input) is too long"
    r"|too many tokens|reduce (the length of|your) (the |your )?(messages|prompt|input)"
    r"|`inputs` (tokens|must have)|input (tokens?|token count|length).{0,20}(exceed|should be)"
)


@dataclass(frozen=True)
class Overflow:
    """A request is longer than the endpoint takes; what it does not say is None."""

    reason: str
    context: int | None = None
    prompt: int | None = None
    total: int | None = None  # of prompt and what was asked for
    most: int | None = None  # tokens of any response, however short the prompt

    def room(self, asked: int) -> int | None:
        """Tokens of response that fit, of those asked for; None where that cannot be known."""
        rooms = [asked, self.most] if self.most is not None else []
        prompt = self.prompt
        if prompt is None and self.total is not None and self.total > asked:
            prompt = self.total - asked
        if self.context is not None and prompt is not None:
            rooms.append(self.context - prompt)
        return min((room for room in rooms if room is not None), default=None)


def read_overflow(complaint: Complaint, reason: str) -> Overflow | None:
    """What a refusal says of lengths; None where it is about something else."""
    said, fields = complaint.message.lower(), complaint.fields or {}
    most = _first(MOST, said)
    if most is not None and "(exclusive)" in said:
        most -= 1
    is_long = bool(CODES & complaint.codes) or IS_LONG.search(said) is not None
    if not is_long and most is None:
        return None
    context, prompt = fields.get("n_ctx"), fields.get("n_prompt_tokens")
    return Overflow(
        reason,
        context if isinstance(context, int) else _first(CONTEXT, said),
        prompt if isinstance(prompt, int) else _first(PROMPT, said),
        _first(TOTAL, said),
        most,
    )


def _first(patterns: tuple[re.Pattern[str], ...], text: str) -> int | None:
    found = (pattern.search(text) for pattern in patterns)
    return next((int(match[1].replace(",", "")) for match in found if match), None)
