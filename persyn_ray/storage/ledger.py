"""Ledger of spending against budgets: reservations and costs in files that survive kill -9.

An account is a folder. Every process that spends has a file of its own there, with the tokens it
has settled and those it has reserved (settled ones, requests in flight at their upper bounds, and
a little ahead). What counts as spent is what is reserved: a process that is killed leaves its
reservation behind, one that ends has given back all but what it settled.

Nobody locks anything. Whoever wants more first writes the larger reservation, then reads all the
others, and withdraws it if the sum is over the budget. Of several at once the last to write sees
all the others, so the budget is never exceeded; it needs a file system that shows a finished write
to everybody (local ones, object stores).
"""

import random
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from persyn_ray.errors import DataError
from persyn_ray.recipe.teachers import BudgetConfig, PriceConfig
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.usage import FREE, Usage, least, most

USED_UP = "budget used up"  # begins the reason of what was not asked for because of its budget

AHEAD = 8  # requests reserved at once beyond those in flight, or as many as are in flight
AHEAD_SHARE = 16  # one part in so many of what is left is the most that is reserved ahead
TRIES = 5  # at a reservation that collides with others' that may be withdrawn or given back
TRY_SECONDS = (0.01, 0.05)
REMEMBERED_SECONDS = 2.0  # after a refusal, others' reservations are not read again


@dataclass(frozen=True)
class Spent:
    """Spending of some processes together."""

    tokens: int = 0
    dollars: float = 0.0
    open_tokens: int = 0
    """Those of `tokens` that are not settled: in flight now, or when their process died."""


@dataclass(frozen=True)
class _Entry:
    """One process's file."""

    settled: Usage
    reserved: Usage
    price: PriceConfig | None

    def as_json(self) -> dict[str, object]:
        return {
            "settled": [self.settled.prompt, self.settled.response],
            "reserved": [self.reserved.prompt, self.reserved.response],
            "price": None if self.price is None else self.price.model_dump(),
        }

    @classmethod
    def of(cls, data: Any) -> "_Entry":
        price = None if data["price"] is None else PriceConfig.model_validate(data["price"])
        counts = [[int(count) for count in data[name]] for name in ("settled", "reserved")]
        settled, reserved = (Usage(*pair) for pair in counts)
        return cls(settled, reserved, price)


def spent(account: Folder) -> Spent:
    """What an account has spent, reservations that nobody gave back included.

    Raises:
        DataError: a file of the account cannot be read.
    """
    return _total(_entries(account))


def accounts(ledger: Folder) -> dict[str, Spent]:
    """Spending by account (`KIND/NAME`) of a whole ledger, without those never used."""
    names = [f"{kind}/{name}" for kind in ledger.names() for name in (ledger / kind).names()]
    return {name: spent(ledger / name) for name in names}


def _entries(account: Folder, without: str | None = None) -> list[_Entry]:
    names = [name for name in account.names(".json") if name != without]
    if account.is_local:
        return [_entry(account, name) for name in names]
    with ThreadPoolExecutor(min(8, len(names))) as threads:
        return list(threads.map(lambda name: _entry(account, name), names))


def _entry(account: Folder, name: str) -> _Entry:
    try:
        return _Entry.of(account.read_json(name))
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{account.address}/{name} is no record of spending ({type(error).__name__}), so what "
            "is left of a budget is unknown. Remove the file, and the spending in it is forgotten."
        ) from error


def _total(entries: Iterable[_Entry]) -> Spent:
    entries = list(entries)
    return Spent(
        sum(one.reserved.tokens for one in entries),
        sum(one.reserved.dollars(one.price) for one in entries),
        sum(one.reserved.tokens - one.settled.tokens for one in entries),
    )


class Account:
    """This process's part of an account, and whether one more request fits into the budget.

    A request is taken at an upper bound before it is sent, and settled at what it cost; where that
    stays unknown, the bound counts. Without a folder the account lives in memory alone. May be used
    from several threads; a copy in another process is another part of the same account.
    """

    def __init__(
        self,
        budget: BudgetConfig | None = None,
        price: PriceConfig | None = None,
        folder: Folder | None = None,
    ) -> None:
        self.budget, self.price, self._folder = budget or BudgetConfig(), price, folder
        self._name = f"{uuid.uuid4().hex}.json"
        # Sums of whole tokens: sums and differences of dollars would drift.
        self._settled = self._in_flight = self._held = FREE
        self._num_in_flight = 0
        self._others = Spent()
        self._written: _Entry | None = None
        self._has_looked = False
        self._refused_at = float("-inf")
        self._state, self._writing = threading.Lock(), threading.Lock()

    def __reduce__(self) -> Any:
        return Account, (self.budget, self.price, self._folder)

    @property
    def spent(self) -> tuple[int, float]:
        """Tokens and dollars so far: settled here, reserved by all others."""
        self._look()
        with self._state:
            return (
                self._others.tokens + self._settled.tokens,
                self._others.dollars + self._settled.dollars(self.price),
            )

    @property
    def is_waiting(self) -> bool:
        """Whether something in flight may still turn out cheaper."""
        with self._state:
            return self._num_in_flight > 0

    def take(self, bound: Usage) -> bool:
        """Set the bound aside out of what is reserved; touches no file."""
        with self._state:
            used = self._settled + self._in_flight + bound
            if self._folder is None:
                if not self._is_within(used):
                    return False
            elif not used.fits(self._held):
                return False
            self._in_flight += bound
            self._num_in_flight += 1
            return True

    def more(self, bound: Usage) -> bool:
        """Reserve enough for the bound and a little ahead; False where the budget has no room.

        Raises:
            PersynError: the ledger cannot be read or written.
        """
        if self._folder is None:
            return False
        with self._writing:
            if not self._has_looked:
                self._look()
            for _ in range(TRIES):
                if self._reserve(bound):
                    return True
                is_known = time.monotonic() - self._refused_at < REMEMBERED_SECONDS
                if is_known or not self._others.open_tokens:  # nothing will be given back
                    break
                time.sleep(random.uniform(*TRY_SECONDS))
                self._look()
            else:
                self._refused_at = time.monotonic()
            return False

    def settle(self, bound: Usage, cost: Usage | None) -> None:
        """End a request: what it cost counts, or its bound where that is unknown (None)."""
        with self._state:
            self._in_flight -= bound
            self._num_in_flight -= 1
            self._settled += bound if cost is None else cost

    def rest(self) -> None:
        """Give back what is reserved ahead, where nothing is in flight.

        Raises:
            PersynError: the ledger cannot be written.
        """
        with self._writing:
            with self._state:
                entry = _Entry(self._settled, self._settled, self.price)
                is_new = self._written is None and self._settled == FREE
                is_over = self._num_in_flight == 0 and self._folder is not None
                if not is_over or is_new or entry == self._written:
                    return
                self._held = self._settled
            self._write(self._settled)

    def refusal(self, bound: Usage) -> str:
        """Why the bound does not fit."""
        with self._state:
            tokens = self._others.tokens + self._settled.tokens
            dollars = self._others.dollars + self._settled.dollars(self.price)
        budget, more, money = self.budget, bound.tokens, bound.dollars(self.price)
        limits = [
            f"{tokens} of {budget.tokens} tokens are spent and this may take {more}"
            if budget.tokens is not None
            else "",
            f"${dollars:.4f} of ${budget.dollars:.4f} are spent and this may cost ${money:.4f}"
            if budget.dollars is not None
            else "",
        ]
        return f"{USED_UP}: {'; '.join(filter(None, limits))}"

    def _reserve(self, bound: Usage) -> bool:
        """Write, look, and keep or withdraw."""
        with self._state:
            needed = self._settled + self._in_flight + bound
            if not self._is_within(needed):
                return False
            wanted = needed + bound * self._num_ahead(needed, bound)
            # Until it is known to fit, nothing beyond both is used.
            self._held = least(self._held, wanted)
        self._write(wanted)
        self._look()
        with self._state:
            if self._is_within(wanted):
                self._held = wanted
                return True
            kept = most(self._held, self._settled + self._in_flight)
        self._write(kept)
        return False

    def _num_ahead(self, needed: Usage, bound: Usage) -> int:
        """How many more such requests to reserve: the fewer, the less is left."""
        numbers = [float(max(AHEAD, self._num_in_flight))]
        if self.budget.tokens is not None and bound.tokens:
            left = self.budget.tokens - self._others.tokens - needed.tokens
            numbers.append(left / AHEAD_SHARE / bound.tokens)
        if self.budget.dollars is not None and bound.dollars(self.price):
            left = self.budget.dollars - self._others.dollars - needed.dollars(self.price)
            numbers.append(left / AHEAD_SHARE / bound.dollars(self.price))
        return max(0, int(min(numbers)))

    def _is_within(self, wanted: Usage) -> bool:
        tokens = self._others.tokens + wanted.tokens
        dollars = self._others.dollars + wanted.dollars(self.price)
        return (self.budget.tokens is None or tokens <= self.budget.tokens) and (
            self.budget.dollars is None or dollars <= self.budget.dollars
        )

    def _write(self, reserved: Usage) -> None:
        assert self._folder is not None
        with self._state:
            entry = _Entry(self._settled, reserved, self.price)
        self._folder.write_json(self._name, entry.as_json())
        self._written = entry

    def _look(self) -> None:
        if self._folder is None:
            return
        others = _total(_entries(self._folder, without=self._name))
        with self._state:
            self._others, self._has_looked = others, True
