import asyncio
import pickle
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persyn_ray.client import protocol
from persyn_ray.client.http import AsyncRouterClient, Route, RouteBatches, RouterClient, RouterError
from persyn_ray.client.protocol import Access, bodies
from persyn_ray.errors import ConfigError, DataError, PersynError

from .router_server import KEY, VERSION, Fault, RouterServer, checksum

Ask = Callable[..., list[Route]]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "FIRST_SECONDS", 0.002)


@pytest.fixture
def server() -> Iterator[RouterServer]:
    with RouterServer() as started:
        yield started


def ask_plainly(url: str, prompts: Any, choice: Any = None, **settings: Any) -> list[Route]:
    with RouterClient(url, KEY, **settings) as client:
        return client.route(prompts, **(choice or {}))


def ask_in_a_loop(url: str, prompts: Any, choice: Any = None, **settings: Any) -> list[Route]:
    async def ask() -> list[Route]:
        async with AsyncRouterClient(url, KEY, **settings) as client:
            return await client.route(prompts, **(choice or {}))

    return asyncio.run(ask())


@pytest.fixture(params=[ask_plainly, ask_in_a_loop], ids=["plain", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param


def test_a_route_has_all_that_the_answer_says(server: RouterServer, ask: Ask) -> None:
    (late, novel) = ask(server.url, ["be late", "something novel"])
    assert late.fallback == "late"
    assert late.margin is None
    assert late.scores == {}
    assert novel.is_novel is True
    assert novel.margin == 1.5
    assert novel.scores == {novel.teacher: 0.5, novel.runner_up: -1.0}
    assert novel.router == VERSION
    (alone,) = ask(server.url, "something novel")
    assert alone == novel


def test_many_prompts_go_in_several_requests_and_keep_their_order(ask: Ask) -> None:
    prompts = [f"prompt {number}" for number in range(700)]
    with RouterServer() as server:
        routes = ask(server.url, prompts)
    assert [route.distance for route in routes] == [checksum(prompt) for prompt in prompts]
    assert sorted(len(call.prompts) for call in server.calls) == [188, 256, 256]


def test_order_is_kept_where_requests_are_overtaken() -> None:
    prompts = [f"prompt {number}" for number in range(60)]
    with RouterServer(Fault(503, delay=0.3), Fault(0), Fault(504), delay=0.01) as server:
        routes = ask_in_a_loop(server.url, prompts, batch_prompts=5)
    assert [route.distance for route in routes] == [checksum(prompt) for prompt in prompts]
    assert server.most_at_once() in (2, 3, 4)


def test_no_prompts_make_no_request(server: RouterServer, ask: Ask) -> None:
    assert ask(server.url, []) == []
    assert server.calls == []


def test_what_is_sent(server: RouterServer, ask: Ask) -> None:
    conversation = [{"role": "user", "content": "Sortiere 3 1 2 – größer zuerst"}]
    choice = {"allowed": ["large"], "excluded": None, "price_weight": 0.25}
    ask(f"{server.url}/", ["a", conversation], choice)
    (call,) = server.calls
    assert (call.method, call.path) == ("POST", "/v1/route")
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.headers["content-type"] == "application/json"
    assert call.body == {
        "prompts": ["a", conversation],
        "allowed": ["large"],
        "price_weight": 0.25,
    }


def test_an_address_below_a_prefix(server: RouterServer) -> None:
    with RouterClient(f"{server.url}/router", KEY) as client:
        assert client.status()["router"]["version"] == VERSION
        client.route("a")
    assert [call.path for call in server.calls] == ["/router/v1/status", "/router/v1/route"]


@pytest.mark.parametrize("status", [0, 429, 502, 503, 504])
def test_what_may_pass_is_asked_again(ask: Ask, status: int) -> None:
    with RouterServer(*[Fault(status)] * 3) as server:
        assert len(ask(server.url, "a")) == 1
    assert len(server.calls) == 4


def test_a_proxys_word_that_a_replica_is_gone_may_pass_too(ask: Ask) -> None:
    with RouterServer(Fault(500, is_proxys=True)) as server:
        assert len(ask(server.url, "a")) == 1
    assert len(server.calls) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500, 501])
def test_other_refusals_are_final(ask: Ask, status: int) -> None:
    with RouterServer(*[Fault(status, "for a reason")] * 3) as server:
        with pytest.raises(RouterError, match=f"answered {status}: for a reason") as caught:
            ask(server.url, "a")
        assert caught.value.status == status
        assert server.url in caught.value.message
    assert len(server.calls) == 1


def test_a_slow_answer_is_asked_for_again(ask: Ask) -> None:
    with RouterServer(Fault(200, delay=5.0)) as server:
        assert len(ask(server.url, "a", timeout=2.0)) == 1
    assert len(server.calls) == 2


def test_attempts_end(ask: Ask) -> None:
    with RouterServer(*[Fault(503, "loading")] * 9) as server:
        with pytest.raises(RouterError, match="503 after 3 attempts: loading") as caught:
            ask(server.url, "a", retries=2)
        assert caught.value.status == 503
    assert len(server.calls) == 3


def test_nobody_at_the_address(ask: Ask) -> None:
    with RouterServer() as server:
        url = server.url
    with pytest.raises(RouterError, match=r"after 2 attempts: .*persyn serve") as caught:
        ask(url, "a", retries=1)
    assert caught.value.status is None


def test_the_first_error_ends_the_other_requests() -> None:
    with RouterServer(Fault(422, "too long"), delay=0.05) as server:
        with pytest.raises(RouterError, match="too long"):
            ask_in_a_loop(server.url, ["a"] * 100, batch_prompts=1)
        assert len(server.calls) <= 8


def test_a_pause_asked_for_is_kept(ask: Ask) -> None:
    with RouterServer(Fault(429, headers={"Retry-After": "1"})) as server:
        ask(server.url, "a")
    first, second = server.calls
    assert 1.0 <= second.began - first.ended < 20


def test_a_pause_until_a_date_is_kept() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=4), usegmt=True)
    with RouterServer(Fault(503, headers={"Retry-After": date})) as server:
        ask_plainly(server.url, "a")
    first, second = server.calls
    assert second.began - first.ended > 0.7


@pytest.mark.parametrize(
    "asked", ["", "soon", "-5", "1e9", "²", "Mon, 99 Nov 2026", "Sun, 06 Nov 1994 08:49:37 GMT"]
)
def test_a_pause_that_cannot_be_read_or_is_over_is_none(asked: str) -> None:
    headers = {"Retry-After": asked.encode().decode("latin-1")}
    began = time.monotonic()
    with RouterServer(Fault(503, headers=headers)) as server:
        ask_plainly(server.url, "a")
    assert time.monotonic() - began < 20


def test_a_pause_of_an_hour_is_an_error_and_not_a_wait() -> None:
    with (
        RouterServer(Fault(503, headers={"Retry-After": "3600"})) as server,
        pytest.raises(RouterError, match="pause of 3600 seconds"),
    ):
        ask_plainly(server.url, "a")


def test_pauses_grow_to_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "FIRST_SECONDS", 0.5)
    access = Access.of("http://h", KEY, retries=5000)
    broken = protocol.httpx.ConnectError("refused")
    for attempt in [0, 1, 2, 5, 6, 7, 100, 4999]:
        pauses = [access.pause(attempt, broken) for _ in range(50)]
        most = min(30.0, 0.5 * 2.0 ** min(attempt, 9))
        assert all(pause is not None and most / 2 <= pause <= most for pause in pauses)
        assert len(set(pauses)) > 1


@pytest.mark.parametrize(
    "url", ["", "router:8000", "127.0.0.1:8000", "ftp://h", "http://", "http://h?a=1", "http://u@h"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url is"):
        RouterClient(url, KEY)


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERSYN_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="PERSYN_API_KEY"):
        RouterClient("http://h")
    monkeypatch.setenv("PERSYN_API_KEY", " \n")
    with pytest.raises(ConfigError, match="PERSYN_API_KEY"):
        AsyncRouterClient("http://h")


def test_the_key_of_the_environment(server: RouterServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSYN_API_KEY", f"{KEY}\n")
    with RouterClient(server.url) as client:
        assert len(client.route("a")) == 1


def test_no_message_shows_the_key(server: RouterServer) -> None:
    with pytest.raises(ConfigError) as unusual:
        RouterClient(server.url, "schlüssel")
    assert "schlüssel" not in str(unusual.value)
    with (
        RouterClient(server.url, "wrong-key") as client,
        pytest.raises(RouterError, match=r"401: no such key\. Set PERSYN_API_KEY") as refused,
    ):
        client.route("a")
    assert "wrong-key" not in str(refused.value)
    assert "wrong-key" not in repr(Access.of(server.url, "wrong-key", 0))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(200, content=b"<html>Welcome to nginx!"), "no router: '<html>Welcome"),
        (Fault(200, content=b'{"routes": []}'), "no router"),
        (Fault(200, content=b'{"router": {"version": "1"}, "routes": []}'), "0 routes"),
        (Fault(200, content=b"[1]"), "no router"),
        (Fault(404, content=b"Not Found"), "404: Not Found. base_url must be"),
        (Fault(307, headers={"Location": "http://example.org/"}), "answered 307"),
        (Fault(422, content=b"\xff\xfe"), "answered 422"),
        (Fault(413, "too large"), r"413: too large\. .*max_body_bytes"),
    ],
)
def test_what_the_answer_of_a_stranger_is_called(ask: Ask, fault: Fault, says: str) -> None:
    with RouterServer(fault) as server, pytest.raises(RouterError, match=says):
        ask(server.url, "a")
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        ([1], "Prompt 0 is of type int"),
        ([None], "NoneType"),
        ({"role": "user", "content": "a"}, "one list within the list"),
        ([{"role": "user", "content": "a"}], "one list within the list"),
        (["a", "\ud800"], "prompt 1 cannot be written"),
        ([[{"role": "user", "content": float("nan")}]], "prompt 0 cannot be written"),
    ],
)
def test_what_is_no_prompt(server: RouterServer, ask: Ask, prompts: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        ask(server.url, prompts)


def test_errors_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(RouterError("what", 422)))
    assert (str(error), error.message, error.status) == ("what", "what", 422)
    assert isinstance(error, PersynError)


conversations = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": st.text()}), min_size=1, max_size=3
)


@given(
    st.lists(st.text(st.characters(codec="utf-8")) | conversations, max_size=40),
    st.integers(1, 7),
    st.sampled_from([{}, {"allowed": ["ä"]}, {"price_weight": 0.0, "allowed": None}]),
)
@settings(deadline=None)
def test_bodies_hold_all_prompts_in_order(prompts: Any, most: int, choice: Any) -> None:
    written = [
        (number, protocol.json.loads(body)) for number, body in bodies(prompts, most, choice)
    ]
    assert [prompt for _, body in written for prompt in body.pop("prompts")] == prompts
    assert all(1 <= number <= most for number, _ in written)
    assert all(number == most for number, _ in written[:-1])
    meant = {name: value for name, value in choice.items() if value is not None}
    assert all(body == meant for _, body in written)


def test_long_prompts_go_in_smaller_requests() -> None:
    prompts = ["a" * 400_000] * 5 + ["b" * 3_000_000] + ["c"] * 3
    sent = list(bodies(prompts, 256, {}))
    assert [number for number, _ in sent] == [2, 2, 1, 1, 3]
    assert all(len(body) < 1.1 * 2**20 for number, body in sent if number > 1)


def columns(batch: Any, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(batch[name] for name in names), strict=True))


def objects(*cells: Any) -> np.ndarray:
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column


def test_a_batch_gets_its_columns(server: RouterServer) -> None:
    prompts = objects("a", None, "be late", " \n", np.nan, np.str_("novel"))
    batch = {"prompt": prompts, "id": np.arange(6)}
    routed = RouteBatches(server.url, KEY)(batch)
    assert list(routed) == ["prompt", "id", "margin", "teacher", "is_novel", "fallback", "router"]
    (call,) = server.calls
    assert call.prompts == ["a", "be late", "novel"]
    assert [name is None for name in routed["teacher"]] == [False, True, False, True, True, False]
    assert list(routed["is_novel"]) == [False, None, None, None, None, True]
    assert list(routed["fallback"]) == [None, None, "late", None, None, None]
    assert np.isnan(routed["margin"]).tolist() == [False, True, True, True, True, False]
    assert list(routed["router"]) == [VERSION, None, VERSION, None, None, VERSION]
    assert list(batch) == ["prompt", "id"]


def test_conversations_in_all_their_forms(server: RouterServer) -> None:
    message = {"role": "user", "content": "Hi"}
    parts = {"role": "user", "content": objects({"type": "text", "text": "Hi", "url": None})}
    half = {"role": "assistant", "content": None, "name": None}
    cells = objects(
        [message],
        np.array([message, half], dtype=object),
        (parts,),
        [],
        [half],
        [{"role": "user", "content": []}],
    )
    routed = RouteBatches(server.url, KEY, "chat")({"chat": cells})
    (call,) = server.calls
    assert call.prompts == [
        [message],
        [message, {"role": "assistant", "content": ""}],
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    ]
    assert [name is None for name in routed["teacher"]] == [False] * 3 + [True] * 3


def test_conversations_of_one_length_may_be_a_matrix(server: RouterServer) -> None:
    message = {"role": "user", "content": "Hi"}
    RouteBatches(server.url, KEY)({"prompt": np.array([[message], [message]], dtype=object)})
    assert server.calls[0].prompts == [[message], [message]]


def test_an_arrow_batch_keeps_its_types(server: RouterServer) -> None:
    chats = [[{"role": "user", "content": "Hi"}], None, []]
    table = pa.table({"chat": chats, "id": [1, 2, 3]})
    routed: Any = RouteBatches(server.url, KEY, "chat")(table)
    assert isinstance(routed, pa.Table)
    assert routed.select(["chat", "id"]).equals(table)
    assert routed.schema.field("fallback").type == pa.string()
    assert routed["margin"].to_pylist() == [1.5, None, None]
    assert server.calls[0].prompts == [chats[0]]


@pytest.mark.parametrize("dtype", [object, "str", "string", "category", pd.ArrowDtype(pa.string())])
def test_a_data_frame_keeps_its_index_and_types(server: RouterServer, dtype: Any) -> None:
    texts = pd.Series(["a", None, "be late", " \n", "novel"], index=[3, 1, 1, 5, 9]).astype(dtype)
    frame = pd.DataFrame({"prompt": texts, "id": range(5)})
    before = frame.copy()
    routed: Any = RouteBatches(server.url, KEY)(frame)
    assert server.calls[0].prompts == ["a", "be late", "novel"]
    assert routed["teacher"].isna().tolist() == [False, True, False, True, False]
    assert routed["margin"].isna().tolist() == [False, True, True, True, False]
    assert list(routed["is_novel"]) == [False, None, None, None, True]
    pd.testing.assert_frame_equal(routed[["prompt", "id"]], before)
    pd.testing.assert_frame_equal(frame, before)


def test_a_data_frame_may_hold_conversations_or_nothing(server: RouterServer) -> None:
    chat = [{"role": "user", "content": "Hi"}]
    cells = [chat, None, pd.NA, np.nan, np.array(chat, dtype=object)]
    routed: Any = RouteBatches(server.url, KEY)(pd.DataFrame({"prompt": cells}))
    assert server.calls[0].prompts == [chat, chat]
    assert routed["teacher"].isna().tolist() == [False, True, True, True, False]
    empty: Any = RouteBatches(server.url, KEY)(pd.DataFrame({"prompt": []}))
    assert (len(empty), "router" in empty) == (0, True)
    with pytest.raises(DataError, match=r"No column 'prompt' in \['question'\]"):
        RouteBatches(server.url, KEY)(pd.DataFrame({"question": ["a"]}))


def test_a_batch_without_prompts_asks_nothing(server: RouterServer) -> None:
    route = RouteBatches(server.url, KEY)
    assert list(route({"prompt": objects(None, "")})["teacher"]) == [None, None]
    assert route({"prompt": np.array([], dtype=object)})["margin"].shape == (0,)
    assert server.calls == []


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ({"question": ["a"]}, r"No column 'prompt' in \['question'\]; set prompt_column"),
        ({"prompt": ["a"], "teacher": ["b"]}, r"\['teacher'\] are there already"),
        ({"prompt": np.arange(3)}, "'prompt' holds '0' of type int64"),
        ({"prompt": [["a"]]}, "list of messages"),
        ({"prompt": [[{"role": "user", "content": 3}]]}, "list of messages"),
        ({"prompt": [[{"content": "a"}]]}, "list of messages"),
        ({"prompt": [b"a"]}, "bytes"),
    ],
)
def test_batches_that_are_not_understood(server: RouterServer, batch: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        RouteBatches(server.url, KEY)(batch)
    assert server.calls == []


def test_a_stage_may_travel_before_and_after_its_first_batch(
    server: RouterServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PERSYN_API_KEY", raising=False)
    stage = RouteBatches(server.url, price_weight=0.5)
    with pytest.raises(ConfigError, match="PERSYN_API_KEY"):
        stage({"prompt": objects("a")})
    stage = pickle.loads(pickle.dumps(stage))
    monkeypatch.setenv("PERSYN_API_KEY", KEY)
    stage({"prompt": objects("a")})
    assert KEY.encode() not in pickle.dumps(stage)
    pickle.loads(pickle.dumps(stage))({"prompt": objects("b")})
    assert [call.body["price_weight"] for call in server.calls] == [0.5, 0.5]


def test_a_refused_prompt_fails_its_batch() -> None:
    with (
        RouterServer(Fault(422, "prompt 0 has 9000 tokens")) as server,
        pytest.raises(RouterError, match="9000 tokens"),
    ):
        RouteBatches(server.url, KEY)({"prompt": objects("a")})
