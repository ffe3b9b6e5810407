"""Likelihood of texts under a student: prompts and responses in, nats per token out (Eq. 1).

Axes: N pairs of prompt and response, T tokens of a response.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persyn_ray.errors import DataError
from persyn_ray.library.prompts import Prompts, as_list, conversations_of
from persyn_ray.method.learnability import mean_log_likelihood
from persyn_ray.models.likelihood import Likelihood as Model
from persyn_ray.models.likelihood import TokenScores
from persyn_ray.models.load import load_causal_lm, on_device
from persyn_ray.recipe.base import ModelConfig, StudentConfig
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.stages.learnability import Scorable, ToExamples


@dataclass(frozen=True, eq=False)
class TokenLikelihoods:
    """Each token of one response, its end of turn included."""

    tokens: tuple[str, ...]
    """As the student's tokenizer writes them, (T,)."""
    log_probs: NDArray[np.float64]
    """Log-probability under the student, nats, shape (T,)."""
    ranks: NDArray[np.int64]
    """1 where the student found no other token likelier, shape (T,)."""


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """What a student makes of N responses, in their order."""

    mean_log_likelihood: NDArray[np.float64]
    """Mean log-probability of a response's tokens, nats per token, at most 0, shape (N,): its
    learnability. NaN where it was not scored."""
    num_tokens: NDArray[np.int64]
    """Tokens scored, in the student's tokens, shape (N,); 0 where it was not scored."""
    outcomes: tuple[str, ...]
    """scored, or why not: no_response (empty, or thinking alone), too_long, or unreadable (the
    student's chat template cannot carry it)."""
    details: tuple[str | None, ...]
    """What the chat template does to an unreadable one."""
    per_token: tuple[TokenLikelihoods | None, ...] | None
    """Every token, where that was asked for; None for one that was not scored."""


class Likelihood:
    """A student made ready for scoring texts, on the GPU where there is one.

        student = persyn.Likelihood("Qwen/Qwen2.5-1.5B-Instruct")
        student.score(["What is 2+2?"], ["It is 4."]).mean_log_likelihood

    Texts are read as fine-tuning would read them: through the student's chat template, the response
    with its end of turn. The prompt itself is not scored.

    Args:
        student: a name on the hub, a folder, `package:IMPORT_NAME/path`, or its settings (dtype,
            revision, chat template); float32 by default.
        tokens_per_batch: tokens of one forward pass; what memory hangs on.
        max_length: longest prompt + response in tokens; the student's context by default.
        too_long: whether a longer one is unknown, or scored up to there.
        responses: which thinking the student sees; all of it by default.

    Raises:
        ConfigError: there is no such model, or its chat template is missing or unsound.
    """

    def __init__(
        self,
        student: str | ModelConfig,
        *,
        tokens_per_batch: int = 8192,
        max_length: int | None = None,
        too_long: Literal["null", "truncate"] = "null",
        responses: ResponsesConfig | None = None,
    ) -> None:
        given = {"name": student} if isinstance(student, str) else student.model_dump()
        self.student = StudentConfig.model_validate(given)
        self._to_examples = ToExamples(self.student, max_length, responses, too_long)
        named, code = self.student, self.student.trust_remote_code
        model = load_causal_lm(named.name, named.dtype, named.revision, code)
        self._model = Model(on_device(model), tokens_per_batch)

    def score(
        self, prompts: Prompts, responses: Iterable[str | None], *, per_token: bool = False
    ) -> Likelihoods:
        """How likely the student finds each response, given its prompt.

        Responses to one prompt are best passed together: the prompt is then read once for them.

        Args:
            prompts: N texts or conversations.
            responses: N texts; None where there is none.
            per_token: also give every token.

        Raises:
            DataError: there are not as many prompts as responses, or a prompt is none.
        """
        conversations, said = conversations_of(prompts), as_list(responses, "Responses")
        if len(conversations) != len(said):
            raise DataError(
                f"There are {len(conversations)} prompts and {len(said)} responses; each response "
                "needs the prompt that it answers."
            )
        ids = [str(place) for place in range(len(said))]
        asked = [
            {"prompt_id": name, "messages": messages}
            for name, messages in zip(ids, conversations, strict=True)
        ]
        answers = {"prompt_id": ids, "teacher": ["given"] * len(ids), "response": said}
        if not ids:
            return _gathered([], [], None)
        table = pa.table(answers, schema=_ANSWERS)
        waiting = self._to_examples(pa.Table.from_pylist(asked), table)
        scores = self._scores(waiting)
        return _gathered(waiting, scores, self._tokens(waiting, scores) if per_token else None)

    def _scores(self, waiting: Sequence[Scorable]) -> list[TokenScores | None]:
        examples = [(one.example, one.name) for one in waiting if one.example is not None]
        found = iter(self._model(*zip(*examples, strict=True)) if examples else ())
        return [None if one.example is None else next(found) for one in waiting]

    def _tokens(
        self, waiting: Sequence[Scorable], scores: Sequence[TokenScores | None]
    ) -> tuple[TokenLikelihoods | None, ...]:
        found: list[TokenLikelihoods | None] = []
        for one, of in zip(waiting, scores, strict=True):
            if one.example is None or of is None:
                found.append(None)
                continue
            ids = one.example.ids[one.example.num_prompt_tokens :]
            names = self._to_examples.tokenizer.convert_ids_to_tokens(ids)
            found.append(TokenLikelihoods(tuple(map(str, names)), of.log_probs, of.ranks))
        return tuple(found)


_ANSWERS = pa.schema([(name, pa.string()) for name in ("prompt_id", "teacher", "response")])


def _gathered(
    waiting: Sequence[Scorable],
    scores: Sequence[TokenScores | None],
    per_token: tuple[TokenLikelihoods | None, ...] | None,
) -> Likelihoods:
    means = [np.nan if one is None else mean_log_likelihood(one.log_probs) for one in scores]
    counts = [0 if one is None else len(one.log_probs) for one in scores]
    return Likelihoods(
        mean_log_likelihood=np.array(means, dtype=np.float64),
        num_tokens=np.array(counts, dtype=np.int64),
        outcomes=tuple(one.outcome for one in waiting),
        details=tuple(one.detail for one in waiting),
        per_token=per_token,
    )
