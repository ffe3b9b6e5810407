"""Which conversations take turns: those that a trainer would read, and those it would skip."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.exports.columns import alternates


def turns(roles: str) -> list:
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": names[role], "content": role} for role in roles]


@pytest.mark.parametrize("roles", ["u", "ua", "uau", "uaua", "su", "sua", "suau"])
def test_turns_may_end_with_either_and_begin_with_a_system_message(roles: str) -> None:
    assert alternates(turns(roles))


@pytest.mark.parametrize("roles", ["", "s", "a", "au", "uu", "uaa", "ssu", "usa", "uta", "uas"])
def test_anything_else_does_not_alternate(roles: str) -> None:
    assert not alternates(turns(roles))


@given(st.text("suat", max_size=7))
def test_it_is_the_language_of_one_expression(roles: str) -> None:
    spoken = roles.removeprefix("s")
    wanted = bool(spoken) and spoken == ("ua" * len(spoken))[: len(spoken)]
    assert alternates(turns(roles)) == wanted
