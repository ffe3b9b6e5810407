"""How many requests an endpoint sees at once, when it is left alone, and what it may cost."""

import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.engines.openai.pacing import START
from persyn_ray.recipe.teachers import BudgetConfig, PriceConfig
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.ledger import Account, spent
from persyn_ray.storage.usage import Usage

from .asking import engine_of, reasons, requests
from .fault_server import Call, FaultServer, Reply, answer, failure, first


def slow(call: Call) -> Reply:
    """Slow beside what sockets and both event loops take, even on a busy machine."""
    return answer(call, delay=0.15)


def under_way(server: FaultServer, call: Call) -> int:
    """Prompts at the server when this one came in, itself included."""
    return sum(one.began <= call.began < one.ended for one in server.prompts)


def test_more_and_more_are_under_way_up_to_the_most() -> None:
    with FaultServer(slow) as server:
        engine = engine_of(server, max_requests=12)
        assert set(reasons(engine.generate(requests(60)))) == {"stop"}
        engine.close()
    at_once = [under_way(server, call) for call in server.prompts]
    assert max(at_once[: START + 1]) <= START + 1
    assert server.peak == 12


def test_threads_share_one_limit_and_get_their_own_answers() -> None:
    with FaultServer(slow) as server:
        engine = engine_of(server, max_requests=6)
        shards = [requests(10, start) for start in (0, 100, 200, 300)]
        with ThreadPoolExecutor(4) as threads:
            done = list(threads.map(engine.generate, shards))
        engine.close()
    assert server.peak == 6
    for start, completions in zip((0, 100, 200, 300), done, strict=True):
        texts = [f"answer to p{number}" for number in range(start, start + 10)]
        assert [one.text for one in completions] == texts


def test_requests_turned_away_halve_what_is_under_way_once_a_round_trip() -> None:
    refused = range(60, 66)  # all of one round trip

    def plan(call: Call) -> Reply:
        turned_away = replace(failure(429), delay=0.15)
        return turned_away if call.number in refused else slow(call)

    with FaultServer(plan) as server:
        engine = engine_of(server, max_requests=12)
        assert set(reasons(engine.generate(requests(90)))) == {"stop"}
        engine.close()
    calls = server.prompts
    assert max(under_way(server, call) for call in calls[:60]) == 12
    assert 5 <= max(under_way(server, call) for call in calls[72:84]) <= 9
    assert len(calls) == 96


@pytest.mark.parametrize("is_date", [False, True])
def test_when_one_is_asked_to_wait_everybody_waits(is_date: bool) -> None:
    now, seconds = 1e9, 1 if is_date else 0.4  # a date has whole seconds; its clock is its own
    wish = {"Date": formatdate(now, usegmt=True), "Retry_After": formatdate(now + 1, usegmt=True)}
    told = failure(429, **(wish if is_date else {"Retry_After": "0.4"}))
    with FaultServer(first([told], then=slow)) as server:
        engine = engine_of(server, max_requests=8)
        assert set(reasons(engine.generate(requests(20)))) == {"stop"}
        engine.close()
    asked = server.prompts[0].ended
    later = [call.began - asked for call in server.prompts if call.began - asked > 0.2]
    assert len(later) >= 16
    assert min(later) >= seconds - 0.01


def test_a_wish_to_wait_for_a_day_leaves_the_prompts_for_the_next_run() -> None:
    with FaultServer(first([failure(429, Retry_After="86400")] * 4)) as server:
        engine = engine_of(server)
        completions = engine.generate(requests(9))
        engine.close()
    assert set(reasons(completions)) == {"unavailable"}
    assert "asks to wait for 86400 seconds" in str(completions[8].error)


def test_a_storm_of_refusals_passes_without_loss() -> None:
    with FaultServer(first([failure(429), failure(503)] * 3, then=slow)) as server:
        engine = engine_of(server, attempts=8)
        assert set(reasons(engine.generate(requests(30)))) == {"stop"}
        engine.close()
    assert len(server.prompts) == 36


def billing(seed: int, usages: dict[int, tuple[int, int]], loss: float = 0.0) -> Any:
    """Answers that cost up to what may be asked for; some are lost after they were billed."""
    draws = random.Random(seed)

    def plan(call: Call) -> Reply:
        usages[call.number] = (draws.randrange(1, 150), draws.randrange(1, 17))
        lost = Reply(content=b'{"choices": [')
        sound = answer(call, delay=draws.random() / 50, usage=usages[call.number])
        return lost if draws.random() < loss else sound

    return plan


@pytest.mark.parametrize("seed", range(4))
def test_however_many_are_under_way_a_budget_is_never_exceeded(seed: int, tmp_path: Path) -> None:
    usages: dict[int, tuple[int, int]] = {}
    budget, price = BudgetConfig(tokens=5000, dollars=0.004), PriceConfig(prompt=1.0, response=10.0)
    folder = Folder(str(tmp_path)) if seed < 2 else None  # kept in a ledger, or in memory
    before = Usage(500, 50) if folder else Usage(0, 0)
    if folder:
        earlier = Account(budget, price, folder)
        assert earlier.more(before)
        assert earlier.take(before)
        earlier.settle(before, before)
        earlier.rest()
    spending = Account(budget, price, folder)
    with FaultServer(billing(seed, usages, loss=0.1 * (seed % 2))) as server:
        engine = engine_of(server, spending=spending)
        with ThreadPoolExecutor(2) as threads:
            shards = [requests(60), requests(60, 60)]
            done = [one for part in threads.map(engine.generate, shards) for one in part]
        engine.close()
    costs = [before, *(Usage(*usage) for usage in usages.values())]
    tokens, dollars = sum(one.tokens for one in costs), sum(one.dollars(price) for one in costs)
    assert tokens <= spending.spent[0] <= 5000
    assert dollars - 1e-12 <= spending.spent[1] <= 0.004
    if seed % 2 == 0:  # every cost is known
        assert spending.spent == (tokens, pytest.approx(dollars))
    if folder:  # and nothing is left reserved
        assert (spent(folder).tokens, spent(folder).open_tokens) == (spending.spent[0], 0)
    assert set(reasons(done)) == {"stop", "unavailable"}
    assert all("budget" in str(one.error) for one in done if one.text is None)
    assert 10 < reasons(done).count("stop") < 120


ASKING = """
import sys
from persyn_ray.engines.build import build_engine
from persyn_ray.engines.base import Request
from persyn_ray.storage.ledger import Account
from persyn_ray.storage.folder import Folder
from persyn_ray.recipe.teachers import BudgetConfig, TeacherConfig

address, folder, tokens = sys.argv[1:]
engine = {"kind": "openai", "model": "tiny", "base_url": address, "api_key_env": None}
teacher = TeacherConfig.model_validate(
    {"name": "far", "engine": engine, "sampling": {"max_tokens": 1000}}
)
account = Account(BudgetConfig(tokens=int(tokens)), None, Folder(folder))
built = build_engine(teacher, spending=account)
ask = [Request(f"p{n}", ({"role": "user", "content": f"p{n}"},)) for n in range(40)]
built.generate(ask)
built.close()
"""


def test_a_process_killed_while_it_is_answered_has_spent_what_it_may_be_billed(
    tmp_path: Path,
) -> None:
    budget, folder = 20_000, Folder(str(tmp_path / "ledger"))
    billed = 1007  # each prompt, at its whole limit
    delays = [2.0]  # until it is killed, which may take a while

    def plan(call: Call) -> Reply | None:
        given = answer(call, delay=delays[0], usage=(7, 1000))
        return given if call.method == "POST" else None

    with FaultServer(plan) as server:
        command = [sys.executable, "-c", ASKING, server.base_url, folder.address, str(budget)]
        asking = subprocess.Popen(command)
        while len(server.prompts) < 6:
            assert asking.poll() is None
            time.sleep(0.01)
        asking.kill()
        asking.wait()
        delays[0] = 0.1
        before = spent(folder)
        assert len(server.prompts) * billed <= before.tokens <= budget
        assert before.open_tokens > 0
        subprocess.run(command, check=True, timeout=600)
        assert len(server.prompts) > 6
        assert len(server.prompts) * billed <= spent(folder).tokens <= budget


def test_an_answer_without_usage_counts_at_its_upper_bound() -> None:
    with FaultServer(lambda call: answer(call, usage=None)) as server:
        spending = Account(BudgetConfig(tokens=1500))
        engine = engine_of(server, spending=spending)
        completions = engine.generate(requests(10))
        engine.close()
    assert 0 < reasons(completions).count("stop") < 10
    assert 1000 < spending.spent[0] <= 1500
    assert {one.num_tokens for one in completions} == {0}


def test_what_was_turned_away_costs_nothing() -> None:
    with FaultServer(first([failure(429), failure(500), failure(400)])) as server:
        spending = Account()
        engine = engine_of(server, max_requests=1, spending=spending)
        engine.generate(requests(3))
        engine.close()
    assert len(server.prompts) == 5
    assert spending.spent == (2 * 12, 0.0)
