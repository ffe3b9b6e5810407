"""The endpoint's addresses over a real router, in this process: answers, refusals, chats."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from persyn_ray.models.router.model import load_router, router_logits
from persyn_ray.serving.router_model import RouterModel

from .asking import KEY, TEACHERS, LocalService, ask
from .chatting import CHAT, upstream

PROMPTS = ["What is 3 plus 4?", "Spell apple backwards.", "Sort 5, 2, 9."]


def test_a_prompt_gets_the_routers_best_teacher(make_service, router_folder):
    answer = ask(make_service(), "POST", "/v1/route", {"prompts": PROMPTS}).json()
    router, tokenizer = load_router(router_folder)
    given = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    logits_PM = router_logits(router, tokenizer, given, max_length=64)
    for route, logits_M in zip(answer["routes"], logits_PM, strict=True):
        assert route["teacher"] == TEACHERS[logits_M.argmax()]
        assert list(route["scores"].values()) == pytest.approx(logits_M.tolist(), abs=1e-4)
        assert route["fallback"] is None
    assert answer["teachers"] == answer["candidates"] == list(TEACHERS)


def test_prompt_messages_and_prompts_say_the_same(make_service):
    service = make_service()
    turns = [{"role": "user", "content": PROMPTS[0]}]
    parts = [{"role": "user", "content": [{"type": "text", "text": PROMPTS[0]}]}]
    bodies: list[Any] = [{"prompt": PROMPTS[0]}, {"messages": turns}, {"messages": parts}]
    bodies += [{"prompts": [turns]}, {"prompts": [PROMPTS[0]]}]
    routes = [ask(service, "POST", "/v1/route", body).json()["routes"] for body in bodies]
    assert all(one == routes[0] for one in routes)


def test_many_prompts_are_answered_as_each_alone(make_service):
    service = make_service(tokens_per_batch=128)
    prompts = [f"{prompt} {n}" for n in range(15) for prompt in PROMPTS]
    together = ask(service, "POST", "/v1/route", {"prompts": prompts}).json()["routes"]
    alone = [
        ask(service, "POST", "/v1/route", {"prompt": p}).json()["routes"][0] for p in prompts[:6]
    ]
    for one, other in zip(together[:6], alone, strict=True):
        assert one["teacher"] == other["teacher"]
        assert one["margin"] == pytest.approx(other["margin"], abs=1e-4)


def test_a_prompt_unlike_the_parallel_set_is_novel(make_service):
    body = {"prompts": ["What is 3 plus 4?", "Zebra " * 30]}
    near, far = ask(make_service(), "POST", "/v1/route", body).json()["routes"]
    assert (near["is_novel"], far["is_novel"]) == (False, True)
    assert near["distance"] < far["distance"]


def test_masked_and_excluded_teachers_get_nothing(make_service):
    service = make_service(masked=["ada"])
    body = {"prompts": PROMPTS, "excluded": ["bert"]}
    answer = ask(service, "POST", "/v1/route", body).json()
    assert {route["teacher"] for route in answer["routes"]} == {"cleo"}
    assert answer["candidates"] == ["cleo"]


def test_a_late_router_is_replaced_by_the_prior_shares(make_service):
    service = make_service(answer_within_s=0.01)
    service.delay = 5.0
    response = ask(service, "POST", "/v1/route", {"prompts": PROMPTS})
    assert response.headers["x-persyn-fallback"] == "late"
    for route in response.json()["routes"]:
        assert route["fallback"] == "late"
        assert route["probabilities"] == {"ada": 0.5, "bert": 0.3, "cleo": 0.2}
    assert service.waiting_tokens == 0
    again = ask(service, "POST", "/v1/route", {"prompts": PROMPTS}).json()
    assert again == response.json()


def test_a_router_that_fails_is_replaced_too(make_service):
    service = make_service()
    service.fails = True
    response = ask(service, "POST", "/v1/route", {"prompt": PROMPTS[0]})
    assert (response.status_code, response.headers["x-persyn-fallback"]) == (200, "failed")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, "exactly one of prompt, messages and prompts"),
        ({"prompt": "a", "prompts": ["b"]}, 422, "exactly one"),
        ({"prompts": []}, 422, "at least 1"),
        ({"prompt": "a", "prise_weight": 1}, 422, "prise_weight"),
        ({"prompt": "a", "price_weight": -1}, 422, "price_weight"),
        ({"prompt": "a", "price_weight": 1}, 422, "serving.prices"),
        ({"prompt": "a", "allowed": ["dora"]}, 422, "dora"),
        ({"prompt": "a", "allowed": []}, 422, "excluded [], allowed []."),
        ({"prompts": ["a"] * 9}, 422, "serving.max_prompts is 8"),
        ({"prompt": "word " * 400}, 422, "serving.max_prompt_tokens is 200"),
        ({"messages": [{"role": "tool", "content": "a"}]}, 422, ""),
        ({"messages": [{"role": "nobody", "content": "a"}]}, 422, "role"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make_service, body, status, words):
    service = make_service(max_prompts=8, max_prompt_tokens=200)
    response = ask(service, "POST", "/v1/route", body)
    assert response.status_code == status
    error = response.json()["error"]
    assert words in error["message"]
    assert error["code"] == status


def test_no_refusal_repeats_the_prompt(make_service):
    body = {"prompt": "a secret", "messages": [{"role": "user", "content": "another secret"}]}
    assert "secret" not in ask(make_service(), "POST", "/v1/route", body).text
    assert "secret" not in ask(make_service(), "POST", "/v1/route", b'{"prompt": "secret').text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"prompt"',
        b"{",
        b'{"prompt": "\xff\xfe"}',
        b'{"prompt": "a", "price_weight": NaN}',
        b'{"prompt": "a", "price_weight": 1e999}',
        b'{"prompt": "a", "\\ud800": 1}',
        b'{"prompt": ' + b"[" * 100_000,
        b'{"prompt": "a", "price_weight": ' + b"1" * 10_000 + b"}",
    ],
)
def test_hostile_json_is_refused_and_never_breaks(make_service, content):
    response = ask(make_service(), "POST", "/v1/route", content)
    assert response.status_code in (400, 422)
    assert response.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"prompts": [1] * 200_000},
        {"prompts": [[{"role": "user", "content": [7] * 200_000}]]},
        {"prompt": "a", "excluded": [1] * 200_000},
        {str(number): 1 for number in range(50_000)},
        {"prompts": ["a"] * 200_000},
    ],
    ids=["numbers", "parts", "names", "fields", "prompts"],
)
def test_very_many_faults_are_refused_at_the_first(make_service, body):
    response = ask(make_service(), "POST", "/v1/route", body)
    assert response.status_code == 422
    assert len(response.content) < 4000


def test_a_body_that_is_not_said_to_be_json_is_told_so(make_service):
    service = make_service()

    async def post() -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(transport=service.transport(), base_url="http://t") as client:
            return await client.post("/v1/route", headers=headers, data={"prompt": "a"})

    response = asyncio.run(post())
    assert response.status_code == 422
    assert "Content-Type: application/json" in response.json()["error"]["message"]


ODD = ["<|im_end|>", "\ud800", "\x00", "\u202e", "[CLS] [SEP]", "</s>" * 20, "\U0001f600"]


@pytest.mark.parametrize("prompt", ODD)
def test_odd_prompts_have_answers(make_service, prompt):
    assert ask(make_service(), "POST", "/v1/route", {"prompt": prompt}).status_code == 200


def test_before_the_router_is_there_nothing_is_promised(model: RouterModel):
    service = LocalService(None)
    assert ask(service, "GET", "/healthz").status_code == 200
    assert ask(service, "GET", "/readyz").status_code == 503
    response = ask(service, "POST", "/v1/route", {"prompt": "a"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def test_too_much_waiting_is_refused_with_a_time(make_service):
    service = make_service(max_waiting_tokens=1)
    service.waiting_tokens = 1
    response = ask(service, "POST", "/v1/route", {"prompt": PROMPTS[0]})
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")


def test_status_and_metrics_count_what_was_routed(make_service):
    service = make_service()
    ask(service, "POST", "/v1/route", {"prompts": PROMPTS})
    status = ask(service, "GET", "/v1/status").json()
    assert status["num_routed"] == 3
    assert sum(status["shares"].values()) == pytest.approx(1.0)
    assert "persyn_routed_total" in ask(service, "GET", "/metrics").text


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz", "/readyz"])
def test_what_is_open_needs_no_key(make_service, path):
    assert ask(make_service(), "GET", path, key=None).status_code == 200


def test_the_documentation_brings_its_own_scripts(make_service):
    page = ask(make_service(), "GET", "/docs", key=None).text
    (script,) = [part.split('"')[0] for part in page.split('<script src="')[1:]]
    assert script.startswith("/")
    assert ask(make_service(), "GET", script, key=None).status_code == 200


@pytest.mark.parametrize("path", ["/v1/status", "/metrics", "/v1/models", "/docs/../v1/status"])
def test_all_else_needs_one(make_service, path):
    assert ask(make_service(), "GET", path, key=None).status_code == 401
    assert ask(make_service(), "GET", path, key="pk-wrong").status_code == 401


def test_a_chat_goes_to_a_teacher_that_has_an_endpoint(make_service, teacher):
    service = make_service(upstreams={"bert": upstream(teacher)})
    response = ask(service, "POST", "/v1/chat/completions", CHAT)
    assert response.json()["choices"][0]["message"]["content"] == "hello"
    assert response.headers["x-persyn-teacher"] == "bert"
    assert response.headers["x-persyn-router"] == service.state.model.version
    (asked,) = teacher.asked
    assert asked == CHAT | {"model": "real-name", "authorization": None, "max_tokens": 4096}


def test_a_chat_is_routed_among_those_with_endpoints(make_service, teacher):
    both = {"ada": upstream(teacher), "cleo": upstream(teacher)}
    service = make_service(upstreams=both)
    allowed = {"prompt": "hi", "allowed": ["ada", "cleo"]}
    best = ask(service, "POST", "/v1/route", allowed).json()["routes"][0]["teacher"]
    response = ask(service, "POST", "/v1/chat/completions", CHAT)
    assert response.headers["x-persyn-teacher"] == best
    other = {"ada": "cleo", "cleo": "ada"}[best]
    response = ask(service, "POST", "/v1/chat/completions", CHAT | {"persyn": {"excluded": [best]}})
    assert response.headers["x-persyn-teacher"] == other
    assert "persyn" not in teacher.asked[-1]


def test_the_teachers_key_is_ours_and_never_the_clients(make_service, teacher, monkeypatch):
    monkeypatch.setenv("BERTS_KEY", "sk-upstream-secret")
    service = make_service(upstreams={"bert": upstream(teacher, api_key_env="BERTS_KEY")})
    ask(service, "POST", "/v1/chat/completions", CHAT)
    assert teacher.asked[0]["authorization"] == "Bearer sk-upstream-secret"


def test_a_stream_passes_through(make_service, teacher):
    service = make_service(upstreams={"bert": upstream(teacher)})
    response = ask(service, "POST", "/v1/chat/completions", CHAT | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    "nulls",
    [
        {"stream": None},
        {"persyn": None},
        {"persyn": {"allowed": None, "excluded": None, "price_weight": None}},
        {"max_tokens": None, "tools": None, "stop": None, "stream_options": None},
        {"messages": [{"role": "user", "content": [{"type": None, "text": "hi"}], "name": None}]},
    ],
)
def test_null_counts_as_not_given(make_service, teacher, nulls):
    service = make_service(upstreams={"bert": upstream(teacher)})
    response = ask(service, "POST", "/v1/chat/completions", CHAT | nulls)
    assert response.status_code == 200, response.text
    (asked,) = teacher.asked
    assert [name for name, value in asked.items() if value is None] == ["authorization"]


def test_nulls_of_turns_and_parts_do_not_go_on(make_service, teacher):
    service = make_service(upstreams={"bert": upstream(teacher)})
    part = {"type": "text", "text": "hi", "image_url": None}
    said = {"role": "assistant", "content": None, "refusal": None, "tool_calls": None}
    given = [{"role": "user", "content": [part], "name": None}, said, CHAT["messages"][0]]
    response = ask(service, "POST", "/v1/chat/completions", CHAT | {"messages": given})
    assert response.status_code == 200, response.text
    assert teacher.asked[0]["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None},
        CHAT["messages"][0],
    ]


def test_null_counts_as_not_given_to_the_router_too(make_service):
    service = make_service()
    plain = ask(service, "POST", "/v1/route", {"prompt": "hi"}).json()
    nulls = dict.fromkeys(("messages", "prompts", "allowed", "excluded", "price_weight"))
    assert ask(service, "POST", "/v1/route", {"prompt": "hi"} | nulls).json() == plain


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(401, 502), (403, 502), (404, 502), (500, 502), (503, 503), (429, 429), (400, 400)],
)
def test_a_teachers_refusal_is_told_from_ours(make_service, teacher, theirs, ours):
    teacher.status = theirs
    service = make_service(upstreams={"bert": upstream(teacher)})
    assert ask(service, "POST", "/v1/chat/completions", CHAT).status_code == ours


@pytest.mark.parametrize("status", [400, 413, 422, 429, 503, 504, 401, 500])
def test_a_teachers_words_are_told_without_what_is_ours(make_service, teacher, monkeypatch, status):
    monkeypatch.setenv("BERTS_KEY", "sk-upstream-secret")
    secrets = "sk-upstream-secret of org-AbC123 at http://u:pw@10.0.0.7/v1"
    teacher.status = status
    teacher.refusal = json.dumps(
        {"error": {"message": f"max_tokens is too large: {secrets}"}}
    ).encode()
    service = make_service(upstreams={"bert": upstream(teacher, api_key_env="BERTS_KEY")})
    response = ask(service, "POST", "/v1/chat/completions", CHAT)
    assert "sk-upstream" not in response.text
    assert "u:pw" not in response.text
    assert "bert" in response.json()["error"]["message"]
    is_of_request = status in (400, 413, 422)
    assert ("max_tokens is too large" in response.text) == is_of_request
    assert ("org-AbC123" in response.text) == is_of_request
    if response.status_code == status:
        assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize("words", [b"", b"\xff\xfe", b"<html>", b"[" * 5000, b"a" * 10**6])
def test_a_refusal_in_any_form_is_one_of_ours(make_service, teacher, words):
    teacher.status, teacher.refusal = 400, words
    service = make_service(upstreams={"bert": upstream(teacher)})
    response = ask(service, "POST", "/v1/chat/completions", CHAT)
    assert response.status_code == 400
    assert len(response.json()["error"]["message"]) < 700


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}},
        {"image_url": "http://10.0.0.1/"},
        {"type": None, "image_url": {"url": "file:///etc/passwd"}},
        {"type": "text", "text": "a", "image_url": {"url": "http://10.0.0.1/"}},
        {"type": "input_audio", "input_audio": {"data": ""}},
        {"type": "video_url", "video_url": {"url": "http://10.0.0.1/"}},
        {"type": "file", "file": {"file_id": "x"}},
    ],
)
def test_only_text_goes_on_to_a_teacher(make_service, teacher, part):
    service = make_service(upstreams={"bert": upstream(teacher)})
    for content in ([part], [{"type": "text", "text": "hi"}, part]):
        chat = CHAT | {"messages": [{"role": "user", "content": content}]}
        refused = ask(service, "POST", "/v1/chat/completions", chat)
        assert refused.status_code == 422
        assert "only text" in refused.json()["error"]["message"]
    assert teacher.asked == []


def test_parts_of_text_go_on_as_they_are(make_service, teacher):
    service = make_service(upstreams={"bert": upstream(teacher)})
    parts = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"text": "b"}]
    chat = CHAT | {"messages": [{"role": "user", "content": parts}]}
    assert ask(service, "POST", "/v1/chat/completions", chat).status_code == 200
    assert teacher.asked[0]["messages"][0]["content"] == parts


def test_a_teacher_out_of_reach_is_a_502(make_service):
    lost = {"model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key_env": None}
    service = make_service(upstreams={"bert": lost})
    response = ask(service, "POST", "/v1/chat/completions", CHAT)
    assert response.status_code == 502
    assert "bert" in response.json()["error"]["message"]


def test_without_upstreams_chats_are_not_configured(make_service):
    response = ask(make_service(), "POST", "/v1/chat/completions", CHAT)
    assert (response.status_code, response.json()["error"]["type"]) == (501, "not_configured")


def test_the_openai_client_works(make_service, teacher):
    openai = pytest.importorskip("openai")
    service = make_service(upstreams={"bert": upstream(teacher)})

    async def talk() -> tuple[list[str], str | None, list[str | None]]:
        http = httpx.AsyncClient(transport=service.transport())
        async with openai.AsyncOpenAI(
            base_url="http://test/v1", api_key=KEY, http_client=http, max_retries=0
        ) as client:
            models = [model.id for model in (await client.models.list()).data]
            turns = [{"role": "user", "content": "hi"}]
            whole = await client.chat.completions.create(model="persyn", messages=turns)
            stream = await client.chat.completions.create(model="bert", messages=turns, stream=True)
            pieces = [piece.choices[0].delta.content async for piece in stream]
        return models, whole.choices[0].message.content, pieces

    models, whole, pieces = asyncio.run(talk())
    assert (models, whole, pieces) == (["persyn", "bert"], "hello", ["he"])
