"""Token usage of requests to endpoints: bounds before, reported counts after."""

from dataclasses import dataclass
from typing import Any

from persyn_ray.recipe.teachers import PriceConfig

MOST_TOKENS = 2**31 - 1  # a count that is more is no count


@dataclass(frozen=True)
class Usage:
    """Tokens that came in and those that were written."""

    prompt: int
    response: int

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.prompt + self.response

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.prompt + other.prompt, self.response + other.response)

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.prompt - other.prompt, self.response - other.response)

    def __mul__(self, times: int) -> "Usage":
        return Usage(self.prompt * times, self.response * times)

    def fits(self, room: "Usage") -> bool:
        """Whether both kinds of tokens are within the room's."""
        return self.prompt <= room.prompt and self.response <= room.response

    def dollars(self, price: PriceConfig | None) -> float:
        """What they cost."""
        if price is None:
            return 0.0
        return (self.prompt * price.prompt + self.response * price.response) / 1e6


FREE = Usage(0, 0)


def billed(usage: Any) -> Usage | None:
    """What an endpoint bills by its own `usage` of a request; None where it does not say all.

    Tokens that stand in `total_tokens` alone (the thinking of some) are billed as written.
    """
    if not isinstance(usage, dict):
        return None
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    prompt, response, total = (_count(usage.get(name)) for name in names)
    if not prompt or response is None:  # a prompt without any token is an invented count
        return None
    return Usage(prompt, max(response, (total or 0) - prompt))


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
    return value if is_count else None


def least(one: Usage, other: Usage) -> Usage:
    """The smaller number of each kind."""
    return Usage(min(one.prompt, other.prompt), min(one.response, other.response))


def most(one: Usage, other: Usage) -> Usage:
    """The larger number of each kind."""
    return Usage(max(one.prompt, other.prompt), max(one.response, other.response))
