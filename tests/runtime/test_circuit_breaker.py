"""The circuit breaker: deaths are counted across processes, and the last words are kept."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from persyn_ray.errors import EngineDead
from persyn_ray.runtime.circuit_breaker import CircuitBreaker
from persyn_ray.storage.folder import Folder


def pool(folder: Path, max_deaths: int = 2) -> Callable[[], CircuitBreaker]:
    """Makes the copies that the actors of one pool get of the driver's breaker."""
    breaker = CircuitBreaker(Folder(str(folder)), max_deaths)
    return lambda: pickle.loads(pickle.dumps(breaker))


def test_a_pool_starts_all_its_actors(tmp_path: Path) -> None:
    actor = pool(tmp_path, max_deaths=0)
    for number in range(4):
        actor().start(f"actor-{number}-node")


def test_an_actor_that_moves_to_another_node_has_not_died(tmp_path: Path) -> None:
    actor = pool(tmp_path, max_deaths=0)
    for node in ("a", "b", "c"):
        actor().start(f"actor-{node}")
    with pytest.raises(EngineDead, match="1 deaths"):
        actor().start("actor-c")


def test_an_engine_that_dies_again_and_again_is_given_up_with_its_last_words(
    tmp_path: Path,
) -> None:
    actor = pool(tmp_path)
    for number in range(2):
        breaker = actor()
        breaker.start("actor-node")
        breaker.died(EngineDead(f"death {number}"))
    breaker = actor()
    breaker.start("actor-node")
    with pytest.raises(EngineDead, match=r"3 deaths.*out of memory"):
        breaker.died(EngineDead("out of memory"))


def test_a_process_that_is_killed_without_a_word_is_counted(tmp_path: Path) -> None:
    actor = pool(tmp_path)
    for _ in range(3):
        actor().start("actor-node")
    with pytest.raises(EngineDead, match=r"3 deaths.*killed from outside"):
        actor().start("actor-node")
