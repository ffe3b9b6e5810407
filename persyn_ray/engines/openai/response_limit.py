"""Computes max_tokens of a request where an endpoint's context or rate limits leave less.

The endpoint counts and refuses for free, so a request that was too long is sent once more with
what fits. What was learned holds for later prompts: the most tokens of any response, and the
context for prompts that cannot fit into it at all. A second attempt at a cut response is not paid
for where it would be no longer than the first.
"""

from dataclasses import dataclass

from persyn_ray.engines.openai.context_overflow import Overflow

MARGIN = 64  # tokens; some servers only estimate what they say of a prompt
MOST_SHRINKS = 2  # to what the endpoint says fits, and to that less the margin
MOST_BYTES_PER_TOKEN = 8  # hardly any text has more; a prompt that is longer even so cannot fit


@dataclass
class Fit:
    """Tokens that a request asks for; `floor` is how many the attempt before had, which was cut."""

    limit: int | None  # None where the request has no limit
    floor: int = 0
    num_shrinks: int = 0

    @property
    def is_useless(self) -> bool:
        """Whether the response could be no longer than the one before."""
        return self.limit is not None and self.limit <= self.floor

    def shrink(self, overflow: Overflow) -> bool:
        """Ask for what fits, after a refusal; whether that is possible."""
        room = None if self.limit is None else overflow.room(self.limit)
        if room is None or self.limit is None or self.num_shrinks >= MOST_SHRINKS:
            return False
        is_news = self.num_shrinks == 0 and room < self.limit
        self.limit = room if is_news else min(room, self.limit) - MARGIN
        self.num_shrinks += 1
        return self.limit > self.floor


class Fitting:
    """What one endpoint has said of its limits.

    Args:
        context: longest prompt + response, where it is known.
    """

    def __init__(self, context: int | None = None) -> None:
        self._context = context
        self._most: int | None = None
        self._cut: dict[str, int] = {}  # tokens of responses that were cut at less than asked for

    def begin(self, prompt_id: str, asked: int | None, before: int | None) -> Fit:
        """The limit of a request.

        Args:
            asked: what the recipe asks for.
            before: what it asked for in the attempt before; None for the first.
        """
        limit = asked if asked is None or self._most is None else min(asked, self._most)
        return Fit(limit, 0 if before is None else self._cut.get(prompt_id, before))

    def learn(self, overflow: Overflow) -> None:
        """Keep what holds for every prompt."""
        if overflow.context is not None and overflow.prompt is not None:
            self._context = min(overflow.context, self._context or overflow.context)
        if overflow.most is not None and overflow.most > 0:
            self._most = min(overflow.most, self._most or overflow.most)

    def was_cut(self, prompt_id: str, fit: Fit) -> None:
        """Keep how long a response was that another attempt may make longer."""
        if fit.limit is not None:
            self._cut[prompt_id] = fit.limit

    def refuses(self, num_bytes: int) -> str | None:
        """Why a prompt of so many bytes cannot fit into the context."""
        if self._context is None or num_bytes <= MOST_BYTES_PER_TOKEN * self._context:
            return None
        return f"prompt of {num_bytes} bytes is too long for a context of {self._context} tokens"
