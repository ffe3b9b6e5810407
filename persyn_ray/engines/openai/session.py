"""Event loop in a thread, with the HTTP connections and the request limiter of one endpoint.

A session holds no key: whoever sends gives a function that signs the request. It knows status
codes and bytes, not what they mean.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

import httpx

from persyn_ray.client.connections import tls_context
from persyn_ray.engines.openai.pacing import Pace
from persyn_ray.engines.openai.request_limiter import RequestLimiter
from persyn_ray.engines.openai.shared_refusals import Verdicts
from persyn_ray.engines.openai.wire import Fault
from persyn_ray.storage.ledger import Account
from persyn_ray.storage.usage import FREE

CONNECT_SECONDS = 30.0
MOST_BYTES = 64 * 2**20  # of one response; a server must not fill the memory

Sign = Callable[[httpx.Request], httpx.Request]
Result = TypeVar("Result")
JSON = {"Content-Type": "application/json", "Accept": "application/json"}


class Raw(NamedTuple):
    """What came over the wire."""

    status: int
    headers: httpx.Headers
    content: bytes


class Session:
    """A running loop; `close` ends it for good, with whatever still runs in it."""

    def __init__(self, name: str, pace: Pace, account: Account) -> None:
        self._loop = asyncio.new_event_loop()
        self.limiter = RequestLimiter(self._loop, pace, account)
        self.verdicts = Verdicts()
        self._clients: list[httpx.AsyncClient] = []
        self._idle: list[httpx.AsyncClient] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def now(self) -> float:
        """The time of the loop's clock."""
        return self._loop.time()

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Let a coroutine run in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def send(
        self, method: str, url: str, content: bytes | None, sign: Sign, seconds: float
    ) -> Raw | Fault:
        """One exchange within so many seconds in all, however slowly the bytes drip."""
        client = self._idle.pop() if self._idle else self._new_client()
        request = client.build_request(method, url, content=content, headers=JSON)
        try:
            async with asyncio.timeout(seconds):
                return await _exchange(client, request, sign)
        except TimeoutError:
            return Fault(f"no complete answer within {seconds:g} seconds", None, is_overload=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return Fault(f"no connection: {error}", FREE, is_overload=True)
        except httpx.DecodingError as error:
            return Fault(f"the answer cannot be decompressed: {error}", None)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            return Fault(f"the connection broke: {reason}", None, is_overload=True)
        finally:
            self._idle.append(client)

    def close(self) -> None:
        """Cancel what runs, close the connections and end the thread."""
        self.submit(self._end()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for client in self._clients:
            await client.aclose()

    def _new_client(self) -> httpx.AsyncClient:
        """One for each request in flight, used again and again.

        A client looks through all its connections for each request: with 256 in one client that
        took 20 ms of a core per request.
        """
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        self._clients.append(httpx.AsyncClient(timeout=timeout, verify=tls_context()))
        return self._clients[-1]


async def _exchange(client: httpx.AsyncClient, request: httpx.Request, sign: Sign) -> Raw | Fault:
    response = await client.send(request, auth=sign, stream=True)
    try:
        content = bytearray()
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > MOST_BYTES:
                return Fault(f"the answer is longer than {MOST_BYTES} bytes", None)
        return Raw(response.status_code, response.headers, bytes(content))
    finally:
        await response.aclose()
