"""Learnability: prompts and responses in, measures of the student's forward pass out.

All measures are stored as they are defined; which of them counts, and scaling, are applied later,
on the driver. A response that its teacher had to cut is scored like any other. Where there is
nothing to score the measures are null, and `outcome` says why: there is no response, it is past the
student's context, or the student's chat template cannot carry it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypedDict

import pyarrow as pa

from persyn_ray.engines.vllm_scoring import SPARE_TOKENS, VllmLikelihood
from persyn_ray.errors import DataError
from persyn_ray.method import learnability as measures
from persyn_ray.models.chat import Example, encode_example
from persyn_ray.models.likelihood import Likelihood, TokenScores
from persyn_ray.models.load import (
    context_length,
    load_causal_lm,
    load_config,
    load_tokenizer,
    on_device,
)
from persyn_ray.models.places import Span, span_in_text
from persyn_ray.models.templates.check import require_sound_template
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.stages.examples import paired
from persyn_ray.stages.quality import UNREADABLE
from persyn_ray.storage.schemas import LEARNABILITY, conform


@dataclass(frozen=True)
class Scorable:
    """A response to score, in tokens of the student."""

    prompt_id: str
    teacher: str
    example: Example | None
    """None where there is nothing to score; `outcome` says why."""
    is_truncated: bool = False
    outcome: str = "scored"
    """scored, no_response, too_long or unreadable."""
    detail: str | None = None
    """What the chat template does to an unreadable one."""
    text: str = ""
    """What the example was made from."""
    seen_from: int = 0
    """The character of the stored response at which that text begins."""

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"prompt {self.prompt_id}, teacher {self.teacher}"


class ToExamples:
    """Prompts and responses to token ids, as fine-tuning would see them, within the context."""

    def __init__(
        self,
        student: StudentConfig,
        max_length: int | None = None,
        responses: ResponsesConfig | None = None,
        too_long: Literal["null", "truncate"] = "null",
        spare: int = 0,
    ) -> None:
        code = student.trust_remote_code
        self.tokenizer = load_tokenizer(student.name, student.revision, student.chat_template, code)
        self.section, self.too_long = responses, too_long
        self.template_kwargs, self.end_of_turn = student.template_kwargs, student.end_of_turn
        require_sound_template(self.tokenizer, self.template_kwargs)
        context = context_length(load_config(student.name, student.revision, code))
        limits = (max_length, context - spare if context else None, 1 << 30)
        self.max_length = min(length for length in limits if length)

    def __call__(self, prompts: pa.Table, responses: pa.Table) -> list[Scorable]:
        return [self._scorable(row) for row in paired(prompts, responses, self.section)]

    def _scorable(self, row: dict[str, Any]) -> Scorable:
        """The tokenised pair, cut where the recipe says so, or why there is none."""
        of_row = partial(Scorable, row["prompt_id"], row["teacher"])
        if not row["response"]:
            return of_row(None, outcome="no_response")
        try:
            example = encode_example(
                self.tokenizer,
                row["messages"],
                row["response"],
                self.template_kwargs,
                end_of_turn=self.end_of_turn,
            )
        except DataError as error:  # of this row alone: the template itself is sound
            return of_row(None, outcome=UNREADABLE, detail=str(error))
        of_row = partial(of_row, text=row["response"], seen_from=row["seen_from"])
        if len(example.ids) <= self.max_length:
            return of_row(example)
        if self.too_long == "null" or example.num_prompt_tokens >= self.max_length:
            return of_row(None, outcome="too_long")
        cut = Example(example.ids[: self.max_length], example.num_prompt_tokens)
        return of_row(cut, is_truncated=True)


class Measures(TypedDict):
    """What is measured of a response, under the names of LEARNABILITY."""

    log_likelihood: float | None
    local_log_likelihood: float | None
    lowest_window: float | None
    lowest_start: int | None
    lowest_end: int | None
    rank_surprisal: float | None
    entropy: float | None
    num_tokens: int
    is_truncated: bool


class Learnability:
    """What the student makes of each response, foremost its mean log-likelihood (Eq. 1)."""

    writes = LEARNABILITY

    def __init__(
        self,
        student: StudentConfig,
        tokens_per_batch: int = 8192,
        max_length: int | None = None,
        responses: ResponsesConfig | None = None,
        *,
        too_long: Literal["null", "truncate"] = "null",
        local_window: int | None = None,
        backend: Literal["transformers", "vllm"] = "transformers",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.local_window = local_window
        self.score: Likelihood | VllmLikelihood
        if backend == "vllm":
            self.to_examples = ToExamples(student, max_length, responses, too_long, SPARE_TOKENS)
            longest = self.to_examples.max_length
            self.score = VllmLikelihood(student, tokens_per_batch, arguments, longest)
        else:
            self.to_examples = ToExamples(student, max_length, responses, too_long)
            code = student.trust_remote_code
            model = load_causal_lm(student.name, student.dtype, student.revision, code)
            self.score = Likelihood(on_device(model), tokens_per_batch)

    def __call__(self, prompts: pa.Table, responses: pa.Table) -> pa.Table:
        waiting = self.to_examples(prompts, responses)
        found = iter(self._measured([one for one in waiting if one.example is not None]))
        nothing: dict[str, Any] = {"num_tokens": 0, "is_truncated": False}
        rows = [
            {
                "prompt_id": one.prompt_id,
                "teacher": one.teacher,
                "outcome": one.outcome,
                "detail": one.detail,
            }
            | (nothing if one.example is None else next(found))
            for one in waiting
        ]
        table = pa.Table.from_pylist(rows, schema=LEARNABILITY)
        return conform(table, LEARNABILITY, "learnability")

    def close(self) -> None:
        """End the engine of a backend that has one."""
        if not isinstance(self.score, Likelihood):
            self.score.close()

    def _measured(self, whole: Sequence[Scorable]) -> list[Measures]:
        """Measures of each response; its windows go through the same packs."""
        windows = [self._windows(one.example) for one in whole if one.example is not None]
        asked = [(one.example, one.name) for one in whole if one.example is not None]
        asked += [
            (window, one.name) for one, some in zip(whole, windows, strict=True) for window in some
        ]
        found = iter(self.score(*zip(*asked, strict=True)) if asked else ())
        of_whole = [next(found) for _ in whole]
        return [
            _row(scores, [next(found) for _ in some], one.is_truncated, self._lowest(one, scores))
            for scores, some, one in zip(of_whole, windows, whole, strict=True)
        ]

    def _lowest(self, one: Scorable, scores: TokenScores) -> Span | None:
        """Where the least likely stretch lies in the stored response, in characters."""
        assert one.example is not None
        tokens = measures.lowest_stretch(scores.log_probs)
        span = span_in_text(self.to_examples.tokenizer, one.example, tokens, one.text)
        return span and (span[0] + one.seen_from, span[1] + one.seen_from)

    def _windows(self, example: Example) -> list[Example]:
        """Each window of a response behind the few tokens that stand before it."""
        if self.local_window is None:
            return []
        ids, start = example.ids, example.num_prompt_tokens
        found: list[Example] = []
        for first, last, context in measures.local_windows(
            example.num_response_tokens, self.local_window
        ):
            # The first window stands behind the end of the prompt.
            begin = start + context if first else max(0, start - self.local_window)
            found.append(Example(ids[begin : start + last], start + first - begin))
        return found


def _row(
    scores: TokenScores, windows: Sequence[TokenScores], is_cut: bool, lowest: Span | None
) -> Measures:
    local = [measures.mean_log_likelihood(window.log_probs) for window in windows]
    return {
        "log_likelihood": _known(measures.mean_log_likelihood(scores.log_probs)),
        "local_log_likelihood": _known(sum(local) / len(local) if local else None),
        "lowest_window": _known(measures.lowest_window(scores.log_probs)),
        "lowest_start": lowest[0] if lowest else None,
        "lowest_end": lowest[1] if lowest else None,
        "rank_surprisal": _known(measures.rank_surprisal(scores.log_probs, scores.ranks)),
        "entropy": None if scores.entropies is None else _known(float(scores.entropies.mean())),
        "num_tokens": len(scores.log_probs),
        "is_truncated": is_cut,
    }


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
