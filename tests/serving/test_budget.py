"""What forwarded chats cost, against serving.chat_budget: reserved, settled, refused, shown."""

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.teachers import BudgetConfig
from persyn_ray.serving.chat.budget import account_folder, require_ledger
from persyn_ray.serving.route_requests import new_state
from persyn_ray.serving.router_source import parse_serving, settings_of
from persyn_ray.storage.ledger import Account, Spent, spent
from persyn_ray.storage.usage import Usage

from .asking import KEY, LocalService, ask
from .chatting import CHAT, upstream

PATH = "/v1/chat/completions"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
STREAM = b'data: {"choices": [{"delta": {"content": "he"}}], "usage": null}\n\n'
LAST = b'data: {"choices": [], "usage": %s}\n\n' % json.dumps(USAGE).encode()
DONE = b"data: [DONE]\n\n"
MOST = 100


@pytest.fixture
def make_chats(make_service: Any, teacher: Any, tmp_path: Path) -> Any:
    """A service whose chats have a budget; settings by name."""

    def make(tokens: int | None = 5000, **given: Any) -> LocalService:
        settings: dict[str, Any] = {
            "upstreams": {"bert": upstream(teacher)},
            "max_chat_tokens": MOST,
            "chat_budget": {"tokens": tokens},
            "chat_ledger": str(tmp_path / "ledger"),
        }
        return make_service(**settings | given)

    return make


def settled(service: LocalService) -> Spent:
    """The ledger, once nothing is reserved ahead any more."""
    folder = account_folder(service.settings, "bert")
    end = time.monotonic() + 60
    while True:
        found = spent(folder)
        if found.open_tokens == 0 or time.monotonic() > end:
            return found
        time.sleep(0.005)


def bound_of(asked: dict[str, Any], choices: int = 1) -> int:
    """The upper bound of what the teacher was asked."""
    body = {name: value for name, value in asked.items() if name != "authorization"}
    return len(json.dumps(body, separators=(", ", ": "))) + 256 + MOST * choices


def test_a_chat_costs_what_the_teacher_says(make_chats, teacher):
    service, teacher.usage = make_chats(), USAGE
    assert ask(service, "POST", PATH, CHAT).status_code == 200
    assert settled(service) == Spent(15, 0.0, 0)


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": "10"}, {"prompt_tokens": 0, "completion_tokens": 0}, 7]
)
def test_an_unknown_cost_counts_as_the_bound(make_chats, teacher, usage):
    service, teacher.usage = make_chats(), usage
    assert ask(service, "POST", PATH, CHAT | {"n": 2}).status_code == 200
    assert settled(service).tokens == bound_of(teacher.asked[0], 2)


def test_over_the_budget_a_chat_is_refused_before_it_is_sent(make_chats, teacher):
    service, teacher.usage = make_chats(600), USAGE
    answers = [ask(service, "POST", PATH, CHAT) for _ in range(12)]
    statuses = [answer.status_code for answer in answers]
    assert statuses == sorted(statuses)
    assert set(statuses) == {200, 429}
    assert len(teacher.asked) == statuses.count(200)
    refused = answers[-1]
    error = refused.json()["error"]
    assert error["code"] == error["type"] == "insufficient_quota"
    assert "serving.chat_budget" in error["message"]
    assert "of 600 tokens are spent" in error["message"]
    assert "retry-after" not in refused.headers
    assert settled(service).tokens == 15 * statuses.count(200) <= 600


def test_the_openai_client_does_not_try_again(make_chats, teacher):
    openai = pytest.importorskip("openai")
    service = make_chats(1)
    num_sent = 0

    async def count(request: httpx.Request) -> None:
        nonlocal num_sent
        num_sent += 1

    async def talk() -> None:
        http = httpx.AsyncClient(transport=service.transport(), event_hooks={"request": [count]})
        async with openai.AsyncOpenAI(
            base_url="http://test/v1", api_key=KEY, http_client=http
        ) as client:
            turns = [{"role": "user", "content": "hi"}]
            await client.chat.completions.create(model="bert", messages=turns)

    with pytest.raises(openai.RateLimitError, match="budget used up"):
        asyncio.run(talk())
    assert (num_sent, teacher.asked) == (1, [])


def test_a_budget_outlives_the_process_and_is_shared(make_chats, teacher):
    teacher.usage = USAGE
    first, second = make_chats(650), make_chats(650)
    for service in (first, second, make_chats(650)):
        assert ask(service, "POST", PATH, CHAT).status_code == 200
        settled(service)
    assert settled(second).tokens == 45
    other = Account(BudgetConfig(tokens=650), None, account_folder(first.settings, "bert"))
    assert other.more(Usage(100, 100))  # and dies with it
    assert ask(make_chats(650), "POST", PATH, CHAT).status_code == 429
    assert ask(first, "POST", PATH, CHAT).status_code == 429


@pytest.mark.parametrize("replicas", [1, 4])
def test_chats_at_once_never_spend_more_than_the_budget(make_chats, teacher, replicas):
    services = [make_chats(2000) for _ in range(replicas)]
    with ThreadPoolExecutor(8) as threads:
        works = [
            threads.submit(ask, services[number % replicas], "POST", PATH, CHAT)
            for number in range(24)
        ]
    statuses = [work.result().status_code for work in works]
    assert set(statuses) == {200, 429}
    assert len(teacher.asked) == statuses.count(200)
    assert sum(bound_of(asked) for asked in teacher.asked) <= 2000
    assert settled(services[0]).tokens <= 2000


@pytest.mark.parametrize("asked", [None, {"include_usage": False}, {"include_usage": True}])
@pytest.mark.parametrize("end", [LAST + DONE, LAST, (LAST + DONE).replace(b"\n", b"\r\n")])
def test_a_stream_costs_what_its_last_event_says(make_chats, teacher, asked, end):
    service, teacher.answer = make_chats(), STREAM + end
    chat = CHAT | {"stream": True, "stream_options": asked}
    response = ask(service, "POST", PATH, chat)
    assert settled(service).tokens == 15
    assert teacher.asked[0]["stream_options"] == {"include_usage": True}
    is_wanted = asked == {"include_usage": True}
    assert (b"prompt_tokens" in response.content) == is_wanted
    if is_wanted:
        assert response.content == STREAM + end
    else:
        events = [line for line in response.content.splitlines() if line]
        assert events[0] + b"\n\n" == STREAM
        assert events[1:] in ([], [b"data: [DONE]"])


def test_an_upstream_that_knows_no_usage_in_streams_counts_as_the_bound(make_chats, teacher):
    at = upstream(teacher, extra_body={"stream_options": None})
    service = make_chats(upstreams={"bert": at})
    teacher.answer = STREAM + DONE
    response = ask(service, "POST", PATH, CHAT | {"stream": True})
    assert response.content == STREAM + DONE
    assert "stream_options" not in teacher.asked[0]
    assert settled(service).tokens == bound_of(teacher.asked[0])


RUNNING = STREAM.replace(b"null", json.dumps(USAGE).encode())


@pytest.mark.parametrize("begun", [b"", STREAM, RUNNING])
def test_a_stream_that_breaks_off_counts_as_the_bound(make_chats, teacher, begun):
    """Also where it says in between what it has used so far."""
    service, teacher.answer, teacher.missing = make_chats(), begun, 1000
    with pytest.raises((httpx.HTTPError, AssertionError, OSError)):
        ask(service, "POST", PATH, CHAT | {"stream": True}).raise_for_status().json()
    assert settled(service).tokens == bound_of(teacher.asked[0])


def test_a_client_that_leaves_a_stream_pays_the_bound(make_chats, teacher):
    service, teacher.answer, teacher.pause = make_chats(), STREAM, 0.3
    body = json.dumps(CHAT | {"stream": True}).encode()

    async def leave() -> None:
        app = service.transport().app
        headers = [(b"authorization", f"Bearer {KEY}".encode())]
        headers += [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers}
        scope |= {"query_string": b"", "asgi": {"version": "3.0"}, "http_version": "1.1"}
        scope |= {"server": ("t", 80), "client": ("t", 1), "scheme": "http", "root_path": ""}
        begun = asyncio.Event()
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if given:
                return given.pop()
            await begun.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                begun.set()

        await app(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(leave())
    assert settled(service).tokens == bound_of(teacher.asked[0])


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 429, 500, 503, 302])
def test_a_refusal_of_the_teacher_is_free(make_chats, teacher, status):
    service, teacher.status = make_chats(), status
    assert ask(service, "POST", PATH, CHAT).status_code >= 400
    assert settled(service).tokens == 0


@pytest.mark.parametrize("status", [408, 504, 524])
def test_after_somebody_gave_up_waiting_the_bound_counts(make_chats, teacher, status):
    service, teacher.status = make_chats(), status
    assert ask(service, "POST", PATH, CHAT).status_code >= 400
    assert settled(service).tokens == bound_of(teacher.asked[0])


def test_a_teacher_that_answers_too_late_counts_as_the_bound(make_chats, teacher):
    at = upstream(teacher, timeout_seconds=1.0)
    service, teacher.pause = make_chats(upstreams={"bert": at}), 2.5
    assert ask(service, "POST", PATH, CHAT).status_code == 504
    assert settled(service).tokens == bound_of(teacher.asked[0])


@pytest.mark.parametrize(
    "at",
    [
        {"model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key_env": None},
        {"model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "NO_SUCH_KEY"},
    ],
)
def test_what_was_not_sent_is_free(make_chats, at):
    service = make_chats(upstreams={"bert": at})
    assert ask(service, "POST", PATH, CHAT).status_code == 502
    assert settled(service).tokens == 0


def test_a_budget_in_dollars_goes_by_the_upstreams_price(make_chats, teacher):
    price = {"prompt": 1.0, "response": 1e6}  # a dollar a token
    at, teacher.usage = upstream(teacher, price=price), USAGE
    service = make_chats(upstreams={"bert": at}, chat_budget={"dollars": 104.0})
    assert ask(service, "POST", PATH, CHAT).status_code == 200
    assert settled(service).dollars == pytest.approx(5.00001)
    refused = ask(service, "POST", PATH, CHAT)
    assert refused.status_code == 429
    assert "$5.0000 of $104.0000 are spent" in refused.json()["error"]["message"]


def test_status_and_metrics_show_what_chats_have_cost(make_chats, teacher):
    service, teacher.usage = make_chats(), USAGE
    ask(service, "POST", PATH, CHAT)
    settled(service)
    assert ask(make_chats(), "GET", "/v1/status").json()["chats"] == {
        "bert": {
            "tokens": 15,
            "dollars": 0.0,
            "open_tokens": 0,
            "budget_tokens": 5000,
            "budget_dollars": None,
        }
    }
    metrics = ask(make_chats(), "GET", "/metrics").text
    assert 'persyn_chat_tokens{teacher="bert"} 15.0' in metrics


def test_without_a_budget_nothing_is_recorded(make_chats, teacher, tmp_path):
    service = make_chats(chat_budget=None)
    assert ask(service, "POST", PATH, CHAT | {"stream": True}).status_code == 200
    assert "stream_options" not in teacher.asked[0]
    assert ask(service, "GET", "/v1/status").json()["chats"] == {}
    assert not (tmp_path / "ledger").exists()


def test_without_its_ledger_no_chat_is_forwarded(make_chats, teacher, tmp_path):
    service = make_chats()
    (tmp_path / "ledger" / "chats" / "bert").mkdir(parents=True)
    (tmp_path / "ledger" / "chats" / "bert" / "broken.json").write_text("{")
    assert ask(service, "POST", PATH, CHAT).status_code == 503
    assert ask(service, "GET", "/v1/status").status_code == 503
    assert teacher.asked == []


def test_a_budget_without_ledger_or_price_is_no_setting(model, tmp_path):
    at = {"bert": {"model": "m", "base_url": "http://bert:1/v1"}}
    with pytest.raises(ConfigError, match=r"serving.chat_budget needs serving.chat_ledger"):
        new_state(model, parse_serving({"upstreams": at, "chat_budget": {"tokens": 1}}, "a test"))
    given = {"upstreams": at, "chat_budget": {"dollars": 1}, "chat_ledger": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"needs serving.upstreams.bert.price"):
        new_state(model, parse_serving(given, "a test"))


def test_a_ledger_that_cannot_be_written_is_told_at_the_start(make_chats, tmp_path):
    require_ledger(make_chats().settings)
    assert os.listdir(tmp_path / "ledger") == []
    (tmp_path / "file").write_text("")
    service = make_chats(chat_ledger=str(tmp_path / "file" / "ledger"))
    with pytest.raises(ConfigError, match=r"cannot be written: set serving.chat_ledger to") as told:
        require_ledger(service.settings)
    assert "`run`" not in str(told.value)


def test_a_run_has_a_ledger_of_its_own(router_folder, tmp_path, make_recipe):
    data = make_recipe().model_dump(mode="json")
    price = {"prompt": 1.0, "response": 2.0}
    engine = {"kind": "openai", "model": "m", "base_url": "http://bert:1/v1"}
    data["teachers"] = [{"name": "bert", "engine": engine, "price": price}]
    (tmp_path / "recipe.json").write_text(json.dumps(data))
    (tmp_path / "router").symlink_to(router_folder)
    _, settings = settings_of(str(tmp_path))
    assert settings.chat_ledger == f"{tmp_path}/ledger"
    assert settings.upstreams["bert"].price.model_dump() == price
    _, settings = settings_of(str(tmp_path), {"chat_ledger": "elsewhere"})
    assert settings.chat_ledger == str(Path("elsewhere").absolute())
    assert settings_of(str(router_folder))[1].chat_ledger is None
