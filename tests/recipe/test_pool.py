"""The pool: order is part of it."""

import pytest

from persyn_ray.errors import ConfigError, PoolMismatchError
from persyn_ray.recipe.pool import TeacherPool


def test_a_pool_keeps_its_order() -> None:
    pool = TeacherPool(("b", "a"))
    assert list(pool) == ["b", "a"]
    assert len(pool) == 2
    assert (pool.index("b"), pool.index("a")) == (0, 1)


def test_an_empty_pool_and_doubled_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="no teachers"):
        TeacherPool(())
    with pytest.raises(ConfigError, match=r"\['a'\]"):
        TeacherPool(("a", "b", "a"))


def test_a_name_from_outside_has_no_position() -> None:
    with pytest.raises(PoolMismatchError, match="'z' is no teacher"):
        TeacherPool(("a",)).index("z")


@pytest.mark.parametrize("names", [("b", "a"), ("a",), ("a", "b", "c")])
def test_what_was_made_for_another_pool_or_order_is_refused(names: tuple[str, ...]) -> None:
    pool = TeacherPool(("a", "b"))
    pool.require(("a", "b"), "The router")
    with pytest.raises(PoolMismatchError, match="The router was made for the teachers"):
        pool.require(names, "The router")
