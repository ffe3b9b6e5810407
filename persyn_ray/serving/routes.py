"""Chooses routes: router logits in, ranked teachers with probabilities out.

    score(m)  = o_m - price_weight * price_m
    teacher   = the candidate with the highest score
    P(m)      = exp(score(m)) / sum over candidates of exp(score(j))      (Luce's choice axiom)

Where the router has no answer, a hash of the prompt draws a candidate by the prior shares: the same
prompt gets the same teacher again, from any replica.

Axes: P prompts, M teachers, in pool order.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np

from persyn_ray.method.allocation import draws, tie_breaks
from persyn_ray.method.arrays import Booleans, Floats
from persyn_ray.models.chat import Message
from persyn_ray.serving.error_response import Refusal
from persyn_ray.serving.messages import Route, Wish

SEED = 0  # ties and fallbacks are drawn by it; nothing is gained by another one


@dataclass(frozen=True)
class Policy:
    """Who may be chosen, at what price, and how often without the router."""

    teachers: tuple[str, ...]
    masked: frozenset[str]
    prices: Mapping[str, float]
    prior: Mapping[str, float]

    def candidates(self, wish: Wish, among: Sequence[str] | None = None) -> Booleans:
        """Who may be chosen, shape (M,); `among` are those that a kind of request can use.

        Raises:
            Refusal: 422 for an unknown teacher, or when nobody is left.
        """
        self._require_known(wish)
        allowed = set(self.teachers if wish.allowed is None else wish.allowed)
        if among is not None:
            allowed &= set(among)
        allowed -= self.masked | set(wish.excluded or ())
        if not allowed:
            asked = "all" if wish.allowed is None else wish.allowed
            raise Refusal(
                422,
                f"No teacher is left: of {list(self.teachers)}, masked are {sorted(self.masked)}, "
                f"excluded {wish.excluded or []}, allowed {asked}"
                + ("" if among is None else f", able to answer {list(among)}")
                + ".",
            )
        return np.array([name in allowed for name in self.teachers])

    def _require_known(self, wish: Wish) -> None:
        for field, names in (("allowed", wish.allowed or []), ("excluded", wish.excluded or [])):
            for name in names:
                if name not in self.teachers:
                    raise Refusal(
                        422, f"{field} names {name!r}; the teachers are {list(self.teachers)}."
                    )

    def penalties(self, wish: Wish) -> Floats:
        """What the prices take off each teacher's logits, shape (M,).

        Raises:
            Refusal: 422 when a price is asked for that nobody has given.
        """
        if not wish.price_weight:
            return np.zeros(len(self.teachers))
        left_out = self.masked | set(wish.excluded or ())
        unknown = [n for n in self.teachers if n not in self.prices and n not in left_out]
        if unknown:
            raise Refusal(
                422,
                f"price_weight needs the prices of {unknown}: set serving.prices (dollars per "
                "million response tokens).",
            )
        return wish.price_weight * np.array([self.prices.get(name, 0.0) for name in self.teachers])

    def prior_shares(self, candidates_M: Booleans) -> Floats:
        """Shares of the candidates without a router, shape (M,), sum 1."""
        given_M = np.array([float(self.prior.get(name, 0.0)) for name in self.teachers])
        shares_M = np.where(candidates_M, given_M, 0.0)
        if not shares_M.sum():  # nobody who is left has a share
            shares_M = candidates_M.astype(np.float64)
        return shares_M / shares_M.sum()


def keys(conversations: Sequence[Sequence[Message]]) -> list[str]:
    """A name for each prompt, by what is said in it."""
    return [
        blake2b(json.dumps(turns).encode(), digest_size=12).hexdigest() for turns in conversations
    ]


def choose(
    policy: Policy,
    prompt_keys: Sequence[str],
    scores_PM: Floats,
    candidates_M: Booleans,
    distances: Sequence[tuple[float, bool]] | None,
    with_probabilities: bool,
) -> list[Route]:
    """The best candidate of each prompt, and all that was known of it."""
    names = policy.teachers
    open_PM = np.where(candidates_M, scores_PM, -np.inf)
    order_PM = np.lexsort((-tie_breaks(prompt_keys, names, SEED), -open_PM), axis=-1)
    odds_PM = np.exp(open_PM - open_PM.max(axis=1, keepdims=True))
    chances_PM = odds_PM / odds_PM.sum(axis=1, keepdims=True)
    has_second = candidates_M.sum() > 1
    routes = []
    for place, (order_M, score_M) in enumerate(zip(order_PM, scores_PM.tolist(), strict=True)):
        first, second = int(order_M[0]), int(order_M[1]) if has_second else None
        distance, is_novel = distances[place] if distances is not None else (None, None)
        chances = dict(zip(names, chances_PM[place].tolist(), strict=True))
        routes.append(
            Route.model_construct(
                teacher=names[first],
                runner_up=None if second is None else names[second],
                margin=None if second is None else score_M[first] - score_M[second],
                scores=dict(zip(names, score_M, strict=True)),
                probabilities=chances if with_probabilities else None,
                is_novel=is_novel,
                distance=distance,
                fallback=None,
            )
        )
    return routes


def fall_back(
    policy: Policy,
    prompt_keys: Sequence[str],
    candidates_M: Booleans,
    reason: Literal["late", "failed"],
) -> list[Route]:
    """A candidate for each prompt by the prior shares."""
    shares_M = policy.prior_shares(candidates_M)
    drawn_P = draws(prompt_keys, ("any",), SEED, "prior")[:, 0]
    # The last candidate takes what rounding leaves of 1.
    last = int(np.flatnonzero(candidates_M)[-1])
    places_P = np.minimum(np.searchsorted(shares_M.cumsum(), drawn_P, side="right"), last)
    shares = dict(zip(policy.teachers, shares_M.tolist(), strict=True))
    return [
        Route.model_construct(
            teacher=policy.teachers[int(place)],
            runner_up=None,
            margin=None,
            scores={},
            probabilities=shares,
            is_novel=None,
            distance=None,
            fallback=reason,
        )
        for place in places_P
    ]
