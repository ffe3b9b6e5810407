"""The circuit breaker: deaths are counted across processes, and the last words are kept."""

from pathlib import Path

import pytest

from persyn_ray.errors import EngineDead
from persyn_ray.runtime.breaker import Breaker
from persyn_ray.storage import Folder


def actor(folder: Path, size: int = 1, max_deaths: int = 2) -> Breaker:
    """A breaker as another process of the same pool has it."""
    return Breaker(Folder(str(folder)), size, max_deaths)


def test_a_pool_starts_all_its_actors(tmp_path: Path) -> None:
    for _ in range(4):
        actor(tmp_path, size=4, max_deaths=0).start()


def test_an_engine_that_dies_again_and_again_is_given_up_with_its_last_words(
    tmp_path: Path,
) -> None:
    for number in range(2):
        breaker = actor(tmp_path)
        breaker.start()
        breaker.died(EngineDead(f"death {number}"))
    breaker = actor(tmp_path)
    breaker.start()
    with pytest.raises(EngineDead, match=r"3 deaths.*out of memory"):
        breaker.died(EngineDead("out of memory"))


def test_a_process_that_is_killed_without_a_word_is_counted(tmp_path: Path) -> None:
    for _ in range(3):
        actor(tmp_path).start()
    with pytest.raises(EngineDead, match=r"3 deaths.*killed from outside"):
        actor(tmp_path).start()
