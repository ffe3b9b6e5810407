"""What a forwarded chat may ask a teacher to write."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.serving import ServingConfig, UpstreamConfig
from persyn_ray.serving.chat.limits import CHOICE_FIELDS, TOKEN_FIELDS, bounded_chat
from persyn_ray.serving.error_response import Refusal
from persyn_ray.serving.route_requests import new_state
from persyn_ray.serving.router_source import parse_serving

from .asking import ask
from .chatting import CHAT, upstream

PATH = "/v1/chat/completions"
NOT_COUNTS = ["1.0", "5.5", "1e9", "1e999", "-1", "0", "true", '"100"', "[1]", "{}", "9" * 4000]


@pytest.mark.parametrize("value", [*NOT_COUNTS, "101", "1000000000"])
@pytest.mark.parametrize("name", TOKEN_FIELDS)
def test_more_tokens_than_the_bound_are_refused(make_service, teacher, name, value):
    service = make_service(upstreams={"bert": upstream(teacher)}, max_chat_tokens=100)
    body = json.dumps(CHAT)[:-1] + f', "{name}": {value}}}'
    response = ask(service, "POST", PATH, body.encode())
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["type"] == "invalid_request"
    assert f"{name} is " in error["message"]
    assert "serving.max_chat_tokens" in error["message"]
    assert len(error["message"]) < 200
    assert teacher.asked == []


@pytest.mark.parametrize("value", [*NOT_COUNTS, "5", "128"])
@pytest.mark.parametrize("name", CHOICE_FIELDS)
def test_more_choices_than_the_bound_are_refused(make_service, teacher, name, value):
    service = make_service(upstreams={"bert": upstream(teacher)})
    body = json.dumps(CHAT | {"model": "bert"})[:-1] + f', "{name}": {value}}}'
    response = ask(service, "POST", PATH, body.encode())
    assert response.status_code == 422
    assert "1 to 4 (serving.max_choices)" in response.json()["error"]["message"]
    assert teacher.asked == []


@pytest.mark.parametrize(
    ("extra", "asked", "sent"),
    [
        ({}, {}, {"max_tokens": 100}),
        ({}, {"max_tokens": None, "n": None}, {"max_tokens": 100}),
        ({}, {"max_tokens": 100, "n": 4, "best_of": 2}, {"max_tokens": 100, "n": 4, "best_of": 2}),
        ({}, {"max_completion_tokens": 7}, {"max_completion_tokens": 7}),
        (
            {},
            {"max_tokens": 9, "max_completion_tokens": 7},
            {"max_tokens": 7, "max_completion_tokens": 7},
        ),
        ({}, {"n_predict": 7, "max_tokens": 9}, {"max_tokens": 7}),
        ({"max_completion_tokens": 50}, {}, {"max_completion_tokens": 50}),
        ({"max_completion_tokens": 50}, {"max_tokens": 7}, {"max_completion_tokens": 7}),
        ({"max_tokens": None}, {"max_tokens": 7}, {"max_completion_tokens": 7}),
        ({"max_tokens": None}, {}, {"max_completion_tokens": 100}),
        ({"max_completion_tokens": None}, {"max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 10**6, "n": 64}, {}, {"max_tokens": 100, "n": 4}),
        ({"n": 2}, {"n": 3}, {"max_tokens": 100, "n": 2}),
    ],
)
def test_a_limit_is_sent_along(make_service, teacher, extra, asked, sent):
    at = upstream(teacher, extra_body=extra)
    service = make_service(upstreams={"bert": at}, max_chat_tokens=100)
    assert ask(service, "POST", PATH, CHAT | asked).status_code == 200
    limits = {k: v for k, v in teacher.asked[0].items() if k in (*TOKEN_FIELDS, *CHOICE_FIELDS)}
    assert limits == sent


@pytest.mark.parametrize(
    "more",
    [
        {"models": ["dear"]},
        {"service_tier": "priority"},
        {"MAX_TOKENS": 10**9},
        {"max_to\u212aens": 10**9},
        {"N": 128},
        {"Model": "dear"},
    ],
)
def test_nothing_is_asked_for_by_another_way(make_service, teacher, more):
    service = make_service(upstreams={"bert": upstream(teacher)})
    response = ask(service, "POST", PATH, CHAT | more)
    assert response.status_code == 422, response.text
    assert teacher.asked == []


def test_a_longer_prompt_than_the_upstream_takes_is_refused(make_service, teacher):
    service = make_service(upstreams={"bert": upstream(teacher, max_prompt_tokens=100)})
    turns = [{"role": "tool", "tool_call_id": "1", "content": "a" * 400}]
    chat = {"model": "bert", "messages": CHAT["messages"]}
    assert ask(service, "POST", PATH, chat).status_code == 200
    long = chat | {"messages": [*CHAT["messages"], *turns]}
    response = ask(service, "POST", PATH, long)
    assert response.status_code == 422
    assert "max_prompt_tokens of teacher 'bert' is 100" in response.json()["error"]["message"]
    assert len(teacher.asked) == 1


@pytest.mark.parametrize("name", ["max_tokens", "n"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "7", True, [1]])
def test_an_extra_body_with_a_wrong_limit_is_no_setting(model, name, value):
    at = {"model": "m", "base_url": "http://bert:1/v1", "extra_body": {name: value}}
    settings = parse_serving({"upstreams": {"bert": at}}, "the test")
    with pytest.raises(ConfigError, match=f"upstreams.bert.extra_body.{name} is"):
        new_state(model, settings)


counts = st.none() | st.integers(1, 200)
limits = st.dictionaries(st.sampled_from((*TOKEN_FIELDS, *CHOICE_FIELDS)), counts)
values = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3)
wishes = st.dictionaries(st.sampled_from((*TOKEN_FIELDS, *CHOICE_FIELDS)), counts | values)


@given(wishes, limits, st.integers(1, 100), st.integers(1, 8))
def test_whatever_is_asked_the_bounds_hold(asked, extra, tokens, choices):
    settings = ServingConfig(max_chat_tokens=tokens, max_choices=choices)
    at = UpstreamConfig(model="m", base_url="http://bert:1/v1", extra_body=extra)
    try:
        content, most = bounded_chat({"model": "persyn"} | asked, at, settings)
    except Refusal:
        return
    sent = [content[name] for name in TOKEN_FIELDS if name in content]
    assert sent
    assert all(1 <= one <= tokens for one in sent)
    numbers = [content[name] for name in CHOICE_FIELDS if name in content]
    assert all(1 <= one <= choices for one in numbers)
    assert most == min(sent) * max(numbers, default=1)
