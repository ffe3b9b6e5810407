"""Budgets hold whoever spends at once and whoever is killed; what ends in order leaves its cost."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.recipe.teachers import BudgetConfig, PriceConfig
from persyn_ray.storage import ledger
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.ledger import Account, accounts, spent
from persyn_ray.storage.usage import Usage

BOUND = Usage(40, 60)
PRICE = PriceConfig(prompt=0.5, response=2.0)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "ledger" / "teachers" / "ada"))


def reserve(account: Account, bound: Usage) -> bool:
    return account.take(bound) or (account.more(bound) and account.take(bound))


def spend(account: Account, bound: Usage, cost: Usage | None) -> bool:
    if not reserve(account, bound):
        return False
    account.settle(bound, cost)
    return True


@given(
    seed=st.integers(0, 2**32),
    tokens=st.integers(1, 5000),
    dollars=st.floats(1e-6, 5e-3),
    is_kept=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_whatever_is_in_flight_the_budget_holds(
    tmp_path_factory: pytest.TempPathFactory, seed: int, tokens: int, dollars: float, is_kept: bool
) -> None:
    folder = Folder(str(tmp_path_factory.mktemp("ledger"))) if is_kept else None
    draws, budget = random.Random(seed), BudgetConfig(tokens=tokens, dollars=dollars)
    writers = [Account(budget, PRICE, folder) for _ in range(3 if is_kept else 1)]
    under_way: list[tuple[Account, Usage]] = []
    cost = Usage(0, 0)
    for _ in range(100):
        if draws.random() < 0.6:
            account, bound = draws.choice(writers), Usage(draws.randrange(300), draws.randrange(99))
            if reserve(account, bound):
                under_way.append((account, bound))
        elif under_way:
            account, bound = under_way.pop(draws.randrange(len(under_way)))
            one = Usage(draws.randint(0, bound.prompt), draws.randint(0, bound.response))
            account.settle(bound, one)
            cost += one
        worst = sum((bound for _, bound in under_way), cost)
        assert worst.tokens <= tokens
        assert worst.dollars(PRICE) <= dollars + 1e-12
        if folder is not None:  # what a kill of all would leave
            assert worst.tokens <= spent(folder).tokens <= tokens
    for account, bound in under_way:
        account.settle(bound, bound)
        cost += bound
    for account in writers:
        account.rest()
    for account in writers:
        assert account.spent == (cost.tokens, pytest.approx(cost.dollars(PRICE)))
    if folder is not None:
        assert spent(folder).tokens == cost.tokens
        assert spent(folder).open_tokens == 0


def test_a_reservation_is_room_again_once_it_was_too_large(folder: Folder) -> None:
    account = Account(BudgetConfig(tokens=100), None, folder)
    assert reserve(account, Usage(10, 80))
    assert not reserve(account, Usage(10, 10))
    assert account.is_waiting
    account.settle(Usage(10, 80), Usage(10, 20))
    assert account.spent == (30, 0.0)
    assert reserve(account, Usage(10, 60))


def test_a_refusal_names_what_is_spent_and_what_it_would_take(folder: Folder) -> None:
    budget, price = (
        BudgetConfig(tokens=100, dollars=0.5),
        PriceConfig(prompt=1.0, response=10_000.0),
    )
    earlier = Account(budget, price, folder)
    assert spend(earlier, Usage(65, 25), None)
    account = Account(budget, price, folder)
    assert not reserve(account, Usage(5, 10))
    refusal = account.refusal(Usage(5, 10))
    assert refusal.startswith(ledger.USED_UP)
    assert "90 of 100 tokens are spent and this may take 15" in refusal
    assert "$0.2501 of $0.5000" in refusal


def test_without_a_budget_costs_are_counted_all_the_same(folder: Folder) -> None:
    account = Account(None, PriceConfig(prompt=1.0, response=10.0), folder)
    assert spend(account, Usage(10**9, 10**9), Usage(10**6, 10**5))
    account.rest()
    assert account.spent == (1_100_000, pytest.approx(2.0))
    assert accounts(Folder(folder.address.removesuffix("/teachers/ada"))) == {
        "teachers/ada": ledger.Spent(1_100_000, 2.0, 0)
    }


def test_what_costs_more_than_its_bound_counts_in_full(folder: Folder) -> None:
    account = Account(BudgetConfig(tokens=1000), None, folder)
    assert spend(account, Usage(10, 10), Usage(10, 900))
    assert not reserve(account, Usage(50, 50))
    account.rest()
    assert spent(folder) == ledger.Spent(910, 0.0, 0)


def test_another_price_leaves_what_was_paid_before_at_its_own(folder: Folder) -> None:
    for price in (1.0, 5.0):
        account = Account(BudgetConfig(dollars=9.0), PriceConfig(response=price), folder)
        assert spend(account, Usage(0, 10**6), None)
        account.rest()
    assert spent(folder).dollars == pytest.approx(6.0)
    assert not reserve(
        Account(BudgetConfig(dollars=9.0), PriceConfig(response=5.0), folder), Usage(0, 10**6)
    )


@pytest.mark.parametrize("tokens", [100, 150, 1000, 12345])
def test_the_last_of_a_budget_can_be_spent(folder: Folder, tokens: int) -> None:
    account, num = Account(BudgetConfig(tokens=tokens), None, folder), 0
    while spend(account, BOUND, None):
        num += 1
    assert num == tokens // BOUND.tokens


def test_few_writes_serve_many_requests_and_little_is_reserved_ahead(folder: Folder) -> None:
    account, num_written = Account(BudgetConfig(tokens=10**6), None, folder), 0
    before: Any = None
    for _ in range(400):
        assert spend(account, BOUND, Usage(4, 6))
        (name,) = folder.names()
        num_written += folder.read_bytes(name) != before
        before = folder.read_bytes(name)
        assert spent(folder).open_tokens <= (ledger.AHEAD + 1) * BOUND.tokens
    assert num_written < 400 / 5


def test_a_ledger_that_is_broken_lets_nobody_spend(folder: Folder) -> None:
    for content in (b"", b"{", b"[]", b'{"settled": [1, 2]}', b'{"price": 3}'):
        folder.write_bytes("other.json", content)
        with pytest.raises(DataError, match=r"other\.json is no record of spending"):
            Account(BudgetConfig(tokens=100), None, folder).more(BOUND)


def test_a_ledger_that_cannot_be_written_lets_nobody_spend(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account(BudgetConfig(tokens=10**4), None, folder)
    assert reserve(account, BOUND)

    def fail(*given: Any) -> None:
        raise ConfigError("no space")

    monkeypatch.setattr(Folder, "write_bytes", fail)
    while account.take(BOUND):
        pass
    with pytest.raises(ConfigError, match="no space"):
        account.more(BOUND)
    assert not account.take(BOUND)


def test_a_copy_is_another_writer_of_the_same_account(folder: Folder) -> None:
    account = Account(BudgetConfig(tokens=1000), PRICE, folder)
    assert reserve(account, BOUND)
    copy = pickle.loads(pickle.dumps(account))
    assert (copy.budget, copy.price) == (account.budget, account.price)
    assert not copy.is_waiting
    assert spend(copy, BOUND, None)
    assert len(folder.names()) == 2
    assert spent(folder).tokens >= 2 * BOUND.tokens


def together(number: int, work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(work, range(number)))


@pytest.mark.parametrize("seed", range(3))
def test_many_writers_at_once_never_spend_more_than_there_is(folder: Folder, seed: int) -> None:
    budget, cost, worst = BudgetConfig(tokens=20_000), [0], [0]
    lock = threading.Lock()

    def work(number: int) -> int:
        account, draws, num = Account(budget, None, folder), random.Random(seed * 100 + number), 0
        for _ in range(100):
            bound = Usage(draws.randrange(1, 200), draws.randrange(1, 100))
            if not reserve(account, bound):
                continue
            with lock:
                cost[0] += bound.tokens
                worst[0] = max(worst[0], cost[0])
            time.sleep(draws.random() / 1000)
            paid = Usage(draws.randint(1, bound.prompt), draws.randint(1, bound.response))
            with lock:
                cost[0] += paid.tokens - bound.tokens
            account.settle(bound, paid)
            num += 1
        account.rest()
        return num

    num = sum(together(8, work))
    assert worst[0] <= 20_000
    assert spent(folder) == ledger.Spent(cost[0], 0.0, 0)
    assert cost[0] > 19_000
    assert num > 100


SPENDER = """
import random, sys, time
from persyn_ray.storage.ledger import Account
from persyn_ray.storage.folder import Folder
from persyn_ray.recipe.teachers import BudgetConfig
from persyn_ray.storage.usage import Usage

folder, log, seed, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
account = Account(BudgetConfig(tokens=tokens), None, Folder(folder))
draws, under_way = random.Random(seed), []
with open(log, "a", buffering=1) as file:
    for number in range(2000):
        bound = Usage(draws.randrange(1, 50), draws.randrange(1, 50))
        if account.take(bound) or (account.more(bound) and account.take(bound)):
            file.write(f"{bound.tokens}\\n")  # sent: may be billed in full, whoever is killed
            under_way.append(bound)
        elif not under_way:
            break
        if under_way and draws.random() < 0.5:
            bound = under_way.pop()
            account.settle(bound, bound)
        time.sleep(0.0005)
    for bound in under_way:
        account.settle(bound, bound)
    account.rest()
    file.write("end\\n")
"""


def spenders(folder: Folder, logs: list[Path], tokens: int) -> list[subprocess.Popen[bytes]]:
    """A process for each log, in which it writes what it takes before it goes on."""
    return [
        subprocess.Popen(
            [sys.executable, "-c", SPENDER, folder.address, str(log), str(seed), str(tokens)]
        )
        for seed, log in enumerate(logs)
    ]


def lines(logs: list[Path]) -> list[str]:
    return [line for log in logs if log.exists() for line in log.read_text().splitlines()]


def test_a_kill_forgets_nothing_and_the_budget_holds_over_all_processes(
    folder: Folder, tmp_path: Path
) -> None:
    rounds = [[tmp_path / f"{n}-{one}.txt" for one in range(3)] for n in range(3)]
    budget, everything = 60_000, [log for logs in rounds for log in logs]
    for logs in rounds[:2]:
        running = spenders(folder, logs, budget)
        while len(lines(logs)) < 50:
            time.sleep(0.01)
        for process in running:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        sent = sum(map(int, lines(everything)))
        assert sent <= spent(folder).tokens <= budget
    for process in spenders(folder, rounds[2], budget):
        assert process.wait() == 0
    sent = sum(int(line) for line in lines(everything) if line != "end")
    assert lines(everything).count("end") == 3
    assert 0.9 * budget < sent <= spent(folder).tokens <= budget


def test_what_ended_in_order_is_settled_to_the_token(folder: Folder, tmp_path: Path) -> None:
    logs = [tmp_path / "0.txt", tmp_path / "1.txt"]
    for process in spenders(folder, logs, 30_000):
        assert process.wait() == 0
    sent = sum(int(line) for line in lines(logs) if line != "end")
    assert spent(folder) == ledger.Spent(sent, 0.0, 0)
    for name in folder.names():
        entry = json.loads(folder.read_text(name))
        assert entry["settled"] == entry["reserved"]
