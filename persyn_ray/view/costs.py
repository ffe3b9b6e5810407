"""What a run has cost: its ledger, recipe and stored responses in; dollars by teacher and step out.

The ledger says what each endpoint was paid, whatever for, failures and repeats included. Which step
that was is read off the stored responses: collect counts those to its prompts at their price, and
what else was paid counts to synthesize.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from persyn_ray.errors import PersynError
from persyn_ray.pipeline.choices import collected_splits
from persyn_ray.recipe.teachers import PriceConfig
from persyn_ray.storage.ledger import accounts
from persyn_ray.storage.usage import Usage
from persyn_ray.view.index import SPLITS, Index
from persyn_ray.view.snapshot import Snapshot


@dataclass(frozen=True)
class Costs:
    """Dollars; what is not known is missing."""

    teachers: dict[str, float]
    """By name; of all runs that share the ledger."""
    steps: dict[str, float]
    total: float | None


def costs_of(seen: Snapshot, index: Index | None) -> Costs:
    """What was paid so far, reservations of requests under way included."""
    try:
        paid = accounts(seen.run.ledger)
    except PersynError:  # what was spent is unknown, the rest is not
        return Costs({}, {}, None)
    priced = {one.name: one.price for one in seen.recipe.teachers if one.price is not None}
    teachers = {
        name: paid[f"teachers/{name}"].dollars for name in priced if f"teachers/{name}" in paid
    }
    judges = [of.dollars for name, of in paid.items() if not name.startswith("teachers/")]
    steps = {} if seen.recipe.ledger else _by_step(seen, index, teachers, priced)
    if sum(judges) and not seen.recipe.ledger:
        steps["score"] = sum(judges)
    return Costs(teachers, steps, sum_of_known([*teachers.values(), *judges]))


def sum_of_known(dollars: Iterable[float | None]) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [one for one in dollars if one is not None]
    return float(sum(known)) if known else None


def _by_step(
    seen: Snapshot,
    index: Index | None,
    paid: Mapping[str, float],
    priced: Mapping[str, PriceConfig],
) -> dict[str, float]:
    """What the teachers were paid in collect and in synthesize."""
    if not paid:
        return {}
    everything = sum(paid.values())
    if "synthesize" not in seen.begun and "synthesize" not in seen.records:
        return {"collect": everything}
    if index is None or not index.has_responses:
        return {}
    # A response from a store that runs share was paid for by another run.
    collected = sum(
        min(paid[name], _price_of_stored(seen, index, name, priced[name])) for name in paid
    )
    return {"collect": collected, "synthesize": everything - collected}


def _price_of_stored(seen: Snapshot, index: Index, teacher: str, price: PriceConfig) -> float:
    """What the whole responses of a teacher to the prompts of step collect cost."""
    m = index.names.index(teacher)
    splits = [SPLITS.index(split) for split in collected_splits(seen.recipe.compare)]
    prompt, response = index.paid_SM2[splits, m].sum(axis=0)
    return Usage(int(prompt), int(response)).dollars(price)
