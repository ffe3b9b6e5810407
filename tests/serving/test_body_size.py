"""A small body can hold very many values, and each costs the event loop."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.serving.middleware.body_size import MOST_VALUES, has_more_values
from persyn_ray.serving.router_model import RouterModel

from .asking import LocalService, ask


def values_of(node: Any) -> int:
    """All values below a node."""
    if isinstance(node, dict):
        return sum(1 + values_of(value) for value in node.values())
    if isinstance(node, list):
        return sum(1 + values_of(value) for value in node)
    return 0


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a",[{\\]}\n'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(JSON, st.integers(0, 60))
def test_the_count_is_never_less_than_the_values(value: Any, most: int) -> None:
    body = json.dumps(value).encode()
    if values_of(value) > most:
        assert has_more_values(body, most)
    if 2 * values_of(value) + 1 <= most:  # a list or an object counts with its first value
        assert not has_more_values(body, most)


@given(st.binary(max_size=60), st.integers(0, 20))
def test_anything_may_be_counted(body: bytes, most: int) -> None:
    assert has_more_values(body, most) in (True, False)


MANY = 4 * 2**20
BODIES = {
    "lists": b'{"prompts":[' + b"[]," * (MANY // 4) + b"1]}",
    "objects": b'{"prompts":[' + b"{}," * (MANY // 4) + b"1]}",
    "parts": b'{"messages":[{"role":"user","content":['
    + b'{"text":""},' * (MANY // 14)
    + b'{"text":""}]}]}',
    "tools": b'{"prompt":"x","tools":[' + b"1," * (MANY // 3) + b"1]}",
    "keys": b'{"prompt":"x"' + b',"a":1' * (MANY // 8) + b"}",
    "strings": b'{"excluded":[' + b'"a",' * (MANY // 5) + b'"a"]}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_of_very_many_values_is_refused_at_once(model: RouterModel, body: bytes) -> None:
    service = LocalService(model)
    began = time.process_time()
    for path in ("/v1/route", "/v1/chat/completions"):
        answer = ask(service, "POST", path, body)
        assert answer.status_code == 422
        assert str(MOST_VALUES) in answer.json()["error"]["message"]
    assert time.process_time() - began < 1.5  # parsing alone takes a second each


@pytest.mark.parametrize("piece", [b'"', b"\\", b'"\\', b"a", b",", b"[", b'","', b'"a', b'\\"'])
def test_bodies_that_are_no_json_take_linear_time(piece: bytes) -> None:
    began = time.process_time()
    has_more_values(piece * (MANY // len(piece)))
    has_more_values(b"," * (MOST_VALUES + 1) + b'"' + piece * (MANY // len(piece)))
    assert time.process_time() - began < 1.5


def test_long_texts_and_many_turns_are_no_many_values(model: RouterModel) -> None:
    prose = 'One, two, three, [four], {five}: "six".\n' * 20_000
    assert not has_more_values(json.dumps({"prompt": prose}).encode())
    service = LocalService(model)
    turns = [{"role": "user", "content": [{"type": "text", "text": "Hello."}]}] * 8
    many = {"prompts": [turns] * 200}
    assert ask(service, "POST", "/v1/route", many).status_code == 200


def test_the_parts_of_a_message_are_bounded(model: RouterModel) -> None:
    def body(num: int) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * num}]}

    service = LocalService(model)
    assert ask(service, "POST", "/v1/route", body(1024)).status_code == 200
    refused = ask(service, "POST", "/v1/route", body(1025))
    assert refused.status_code == 422
    assert "1024" in refused.json()["error"]["message"]
