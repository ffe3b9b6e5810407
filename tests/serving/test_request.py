"""What passes between server and app, message by message and in simulated time."""

import asyncio
import hashlib
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.serving.middleware.api_keys import Keys
from persyn_ray.serving.middleware.guard import Guard
from persyn_ray.serving.middleware.rate_limit import Rates
from persyn_ray.serving.middleware.request import LINGER_S

from .connection import App, Reported, Server, simulate

LIMIT, TIMEOUT = 2000, 30.0
KEYS = Keys({"ann": hashlib.sha256(b"key").hexdigest()})
START = {"type": "http.response.start", "status": 200, "headers": []}


def guarded(app: App) -> tuple[Guard, Reported]:
    serving = ServingConfig(max_body_bytes=LIMIT, request_timeout_s=TIMEOUT)
    counts = Reported()
    return Guard(app, serving, KEYS, Rates(1e6, 10**6), counts), counts


def asked(guard: Guard, server: Server, **state: Any) -> Coroutine[Any, Any, None]:
    headers = [(b"authorization", b"Bearer key")]
    scope = {"type": "http", "method": "POST", "path": "/v1/route", "headers": headers}
    return guard({**scope, "state": state}, server.receive, server.send)


async def read(receive: Receive) -> int:
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    return size


async def part(send: Send, content: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": more})


def test_a_stream_passes_as_it_comes_and_may_take_as_long_as_it_likes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        await asyncio.sleep(TIMEOUT - 1)
        await send(START)
        for number in range(5):
            await asyncio.sleep(20)
            await part(send, b"%d" % number, number < 4)
        await asyncio.sleep(100)  # what an app does after an answer is its own affair
        done.append(True)

    async def main() -> None:
        server, (guard, counts) = Server(), guarded(app)
        server.chunk(3, more=False)
        await asked(guard, server)
        assert [round(at) for at, _ in server.sent] == [29, 49, 69, 89, 109, 129]
        assert server.content == b"01234"
        assert (counts.statuses, guard.num_ongoing, done) == ([200], 0, [True])

    done: list[bool] = []
    simulate(main())


@pytest.mark.parametrize("is_body_whole", [True, False])
def test_an_answer_that_does_not_begin_in_time_is_a_504_and_the_app_is_stopped(
    is_body_whole: bool,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await read(receive)
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            with pytest.raises(OSError, match="ended"):
                await send(START)
            assert await receive() == {"type": "http.disconnect"}
            stopped.append(asyncio.get_running_loop().time())
            raise

    async def main() -> None:
        server, (guard, counts) = Server(), guarded(app)
        server.chunk(3, more=not is_body_whole)
        await asked(guard, server)
        assert server.sent[0][0] == TIMEOUT
        assert server.status == 504
        problem = json.loads(server.content)["error"]
        assert problem["code"] == 504
        assert "30 s (serving.request_timeout_s" in problem["message"]
        assert (counts.statuses, guard.num_ongoing, stopped) == ([504], 0, [TIMEOUT])

    stopped: list[float] = []
    simulate(main())


def test_a_body_too_large_is_refused_while_it_comes_and_never_held() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await read(receive)
        except asyncio.CancelledError:
            stopped.append(server.num_received)
            raise

    async def main() -> None:
        guard, counts = guarded(app)
        for _ in range(1000):
            server.chunk(300)
        task = asyncio.create_task(asked(guard, server))
        await task
        assert stopped == [7]
        assert server.status == 413
        assert (b"connection", b"close") in server.sent[0][1]["headers"]
        assert (counts.statuses, guard.num_ongoing) == ([413], 0)
        # The rest was thrown away, for a moment, so that the client can read its answer.
        assert server.num_received == 1000
        assert server.sent[-1][0] == pytest.approx(LINGER_S)

    stopped: list[int] = []
    server = Server()
    simulate(main())


def test_a_body_that_is_not_read_is_not_fetched() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(5)
        await send(START)
        await part(send, b"", False)

    async def main() -> None:
        server, (guard, counts) = Server(), guarded(app)
        for _ in range(1000):
            server.chunk(1)
        await asked(guard, server)
        assert server.num_received <= 2
        assert counts.statuses == [200]

    simulate(main())


def test_a_body_too_large_under_an_answer_that_has_begun_ends_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await read(receive)
        await part(send, b"all", False)

    async def main() -> None:
        server, (guard, counts) = Server(), guarded(app)
        server.chunk(LIMIT)
        server.chunk(1)
        await asked(guard, server)
        assert len(server.sent) == 1  # the server closes what is not complete
        assert (counts.statuses, guard.num_ongoing) == ([200], 0)

    simulate(main())


@pytest.mark.parametrize(("has_begun", "status"), [(False, 499), (True, 200)])
@pytest.mark.parametrize("raises", [False, True])
def test_an_app_is_stopped_when_its_client_has_gone(
    has_begun: bool, status: int, raises: bool
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if has_begun:
            await send(START)
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            stopped.append(asyncio.get_running_loop().time())
            raise

    async def main() -> None:
        server, (guard, counts) = Server(raises=raises), guarded(app)
        server.chunk(3, more=False)
        asyncio.get_running_loop().call_later(7, server.leave)
        await asked(guard, server)
        assert (counts.statuses, guard.num_ongoing, stopped) == ([status], 0, [7])

    stopped: list[float] = []
    simulate(main())


def test_a_failure_under_an_answer_that_has_begun_ends_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await part(send, b"half")
        raise ValueError

    async def main() -> None:
        server, (guard, counts) = Server(), guarded(app)
        server.chunk(0, more=False)
        await asked(guard, server)
        assert server.content == b"half"
        assert not server.is_over.is_set()
        assert (counts.statuses, guard.num_ongoing) == ([200], 0)

    simulate(main())


def test_an_answer_to_a_client_that_has_gone_is_no_exception() -> None:
    async def main() -> None:
        async def receive() -> Message:
            raise RuntimeError("lost")

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise ValueError

        guard, counts = guarded(app)
        for key in (b"key", b"wrong"):
            server = Server(raises=True)
            server.leave()
            scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": []}
            scope["headers"] = [(b"x-api-key", key)]
            await guard(scope, receive, server.send)
        assert len(counts.statuses) == 2

    simulate(main())


PAUSE = st.tuples(st.just("pause"), st.sampled_from([0.0, 0.5, 10.0, 29.0, 31.0]))
CLIENT = st.lists(
    PAUSE
    | st.tuples(st.just("chunk"), st.sampled_from([0, 1, 999, 2000, 2001]))
    | st.tuples(st.sampled_from(["last", "leave", "stop the server"]), st.just(0)),
    max_size=8,
)
DEEDS = ["receive", "start", "part", "end", "fail", "refuse to stop"]
APP = st.lists(PAUSE | st.tuples(st.sampled_from(DEEDS), st.just(0)), max_size=10)


class Acting:
    """An app that does as told, sensible or not."""

    def __init__(self, deeds: list[tuple[str, float]]) -> None:
        self.deeds, self.num_bytes, self.is_running = deeds, 0, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.is_running, is_stubborn = True, ("refuse to stop", 0) in self.deeds
        try:
            for deed, value in self.deeds:
                try:
                    await self._do(deed, value, receive, send)
                except asyncio.CancelledError:
                    if not is_stubborn:
                        raise
        finally:
            self.is_running = False

    async def _do(self, deed: str, value: float, receive: Receive, send: Send) -> None:
        if deed == "pause":
            await asyncio.sleep(value)
        elif deed == "receive":
            self.num_bytes += len((await receive()).get("body", b""))
        elif deed == "start":
            await send(START)
        elif deed in ("part", "end"):
            await part(send, b"x", deed == "part")
        elif deed == "fail":
            raise ValueError(deed)


async def play(events: list[tuple[str, float]], server: Server, task: "asyncio.Task[None]") -> None:
    for event, value in [*events, ("pause", 1000.0), ("leave", 0)]:
        if event == "pause":
            await asyncio.sleep(value)
        elif event == "leave":
            server.leave()
        elif event == "stop the server":
            task.cancel()
        else:
            server.chunk(int(value), event == "chunk")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(CLIENT, APP), min_size=1, max_size=3), st.sampled_from([0, 2]), st.booleans()
)
def test_whatever_happens_a_request_is_counted_once_and_ends(
    plays: list[tuple[list[Any], list[Any]]], send_takes: float, raises: bool
) -> None:
    async def one(events: list[Any], deeds: list[Any]) -> None:
        acting, server = Acting(deeds), Server(send_takes, raises)
        task = asyncio.create_task(asked(guard, server, acting=acting))
        playing = asyncio.create_task(play(events, server, task))
        was_stopped = (await asyncio.gather(task, return_exceptions=True)) != [None]
        assert task.cancelled() == was_stopped  # and no other exception
        assert not acting.is_running or (was_stopped and ("refuse to stop", 0) in deeds)
        assert acting.num_bytes <= LIMIT
        is_cut_off = was_stopped or server.is_gone
        assert server.status is not None or is_cut_off
        if not is_cut_off and server.status != 200:
            assert server.is_over.is_set()  # refusals are complete
            assert json.loads(server.content)["error"]["code"] == server.status
        await asyncio.gather(playing)

    async def main() -> None:
        await asyncio.gather(*(one(*each) for each in plays))
        assert guard.num_ongoing == 0
        assert len(counts.statuses) == len(plays)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await scope["state"]["acting"](scope, receive, send)

    guard, counts = guarded(app)
    simulate(main())
