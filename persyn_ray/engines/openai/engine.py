"""Engine for OpenAI-compatible endpoints: concurrent requests with retries, limits and budget.

All calls of one engine share one session: a loop in a thread, its connections, one request limiter
(rate and budget). The rate adapts to the endpoint (see `pacing`). A fault is tried again after a
while; what still has no answer then is `unavailable`, for the next run, while a prompt that the
endpoint refuses as such is an `error`. What is wrong for every prompt (key, money, model, a
parameter, or the same refusal for all) stops the teacher and leaves its prompts open. Where a
response of the length asked for does not fit, it is asked for with what does.

The key is read from its variable or file whenever it is needed and kept nowhere. Not done here:
streaming, tools, images, more than one choice.
"""

import asyncio
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any, ClassVar

from persyn_ray.engines.base import (
    Completion,
    Done,
    Message,
    Occupancy,
    Request,
    in_order,
    with_system_prompt,
)
from persyn_ray.engines.openai import wire
from persyn_ray.engines.openai.account import EndpointAccount
from persyn_ray.engines.openai.connection_check import check_endpoint
from persyn_ray.engines.openai.context_overflow import Overflow
from persyn_ray.engines.openai.extra_body import largest_limit
from persyn_ray.engines.openai.pacing import Pace, backoff
from persyn_ray.engines.openai.request_limiter import RequestLimiter, Ticket, Unavailable
from persyn_ray.engines.openai.response_limit import Fit, Fitting
from persyn_ray.engines.openai.session import Session
from persyn_ray.errors import ConfigError
from persyn_ray.recipe.engines import OpenAIEngineConfig as Endpoint
from persyn_ray.recipe.teachers import BYTES_PER_TOKEN, SamplingConfig
from persyn_ray.storage.ledger import Account as Spending
from persyn_ray.storage.usage import FREE

logger = logging.getLogger(__name__)

FIRST_DELAY = 1.0  # seconds before the second attempt
LEAST_PATIENCE = 3  # different requests that fail in a row before an endpoint counts as down


class OpenAIEngine:
    """A model at an endpoint; `generate` may be called from several threads at once.

    What it spends is counted in `spending`, which knows the budget and who shares it. Where the
    endpoint does not say what an attempt cost, its upper bound counts as spent.
    """

    overlaps: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        sampling: SamplingConfig,
        system_prompt: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        max_requests: int = 256,
        spending: Spending | None = None,
        think_tags: tuple[str, str] = ("<think>", "</think>"),
        first_delay: float = FIRST_DELAY,
        context: int | None = None,
    ) -> None:
        self._name, self._endpoint, self._sampling = name, endpoint, sampling
        self._account = EndpointAccount(name, endpoint)
        self._system_prompt, self._template_kwargs = system_prompt, dict(template_kwargs or {})
        self._max_requests, self._think_tags = max_requests, think_tags
        self._first_delay, self._spending = first_delay, spending or Spending()
        self._fitting, self._notes = Fitting(context), set[str]()
        self._session: Session | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_session": None, "_lock": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def check(self) -> None:
        """Ask the endpoint, without spending, whether it is there and knows the key.

        A model that it does not list is warned of: the first prompt decides.

        Raises:
            ConfigError: there is no key, or the endpoint is out of reach, refuses the key or has
                another address.
        """
        self._account.key()
        session = self._new_session()
        try:
            seconds = self._endpoint.timeout_seconds
            check = check_endpoint(session, self._account, seconds, self._first_delay)
            session.submit(check).result()
        finally:
            session.close()

    def refuses(self, request: Request) -> str | None:
        """Why the prompt cannot be sent: too long by four bytes a token, or no valid Unicode."""
        try:
            num_bytes = sum(len(turn["content"].encode()) for turn in self._messages(request))
        except UnicodeEncodeError as error:
            return f"the prompt is no valid Unicode: {error.reason} at character {error.start}"
        most = self._endpoint.max_prompt_tokens
        if most is not None and num_bytes / BYTES_PER_TOKEN > most:
            return (
                f"prompt of {num_bytes} bytes, about {num_bytes // BYTES_PER_TOKEN} tokens, "
                f"is longer than the {most} of engine.max_prompt_tokens of {self._name}"
            )
        return self._fitting.refuses(num_bytes)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Ask for all at once, in order; see `stream`."""
        return in_order(len(requests), lambda done: self.stream(requests, done))

    def stream(self, requests: Sequence[Request], done: Done) -> None:
        """Ask for all at once, as far as pace and budget let them."""
        if not requests:
            return
        left = set(range(len(requests)))

        def take(place: int, completion: Completion) -> None:
            left.discard(place)
            done(place, completion)

        with self._lock:
            if self._session is None:
                self._session = self._new_session()
            future = self._session.submit(self._answer_all(self._session, requests, take))
        try:
            future.result()
        except CancelledError:
            closed = Completion.unavailable(f"the engine of {self._name} was closed meanwhile")
            for place in sorted(left):
                done(place, closed)
        except BaseException:  # an interrupt while waiting
            future.cancel()
            raise
        finally:
            self._give_back()

    def take_occupancy(self) -> Occupancy:
        """Nothing: only the endpoint knows what runs there."""
        return Occupancy()

    def close(self) -> None:
        """End loop and connections; requests under way become `unavailable`."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()
            self._give_back()

    def _give_back(self) -> None:
        """Leave the ledger with what was spent; answers are not lost where that fails."""
        try:
            self._spending.rest()
        except Exception as error:  # whatever the storage raises
            logger.warning("The ledger of %s has more than was spent: %s", self._name, error)

    def _new_session(self) -> Session:
        patience = max(LEAST_PATIENCE, self._endpoint.attempts)
        pace = Pace(self._max_requests, patience, self._first_delay)
        return Session(f"endpoint of {self._name}", pace, self._spending)

    def _messages(self, request: Request) -> list[Message]:
        return with_system_prompt(request.messages, self._system_prompt)

    async def _answer_all(self, session: Session, requests: Sequence[Request], done: Done) -> None:
        async def answer(place: int, request: Request) -> None:
            done(place, await self._answer(session, request))

        async with asyncio.TaskGroup() as group:
            for place, request in enumerate(requests):
                group.create_task(answer(place, request))

    async def _answer(self, session: Session, request: Request) -> Completion:
        refusal = self.refuses(request)
        if refusal is not None:
            return Completion.failed(refusal)
        session.verdicts.began()
        try:
            done = await self._ask(session, request)
        finally:
            session.verdicts.ended()
        error = None if done.error is None else self._account.clean(done.error)
        text = None if done.text is None else self._account.without_key(done.text)
        return replace(done, text=text, error=error)

    async def _ask(self, session: Session, request: Request) -> Completion:
        fit, failures, reason = self._fit(request), 0, ""
        if fit.is_useless:
            return Completion.failed(f"a second attempt could have no more than {fit.limit} tokens")
        who = f"{self._sampling.seed}:{request.prompt_id}"
        while failures < self._endpoint.attempts:
            reply = await self._attempt(session, who, self._body(request, fit.limit))
            match reply:
                case wire.Fault():
                    failures += 1
                    reason = self._account.clean(reply.reason)
                    logger.info("%s, attempt %d at %s: %s", self._name, failures, who, reason)
                    if reply.pause is None and failures < self._endpoint.attempts:
                        await asyncio.sleep(backoff(failures, self._first_delay, who))
                case wire.EndpointAnswer(overflow=Overflow() as overflow):
                    self._fitting.learn(overflow)
                    if not fit.shrink(overflow):
                        return reply.completion
                case wire.EndpointAnswer(refusal=wire.EndpointRefusal() as refusal):
                    return await self._judged(session, who, reply.completion, refusal)
                case wire.EndpointAnswer():
                    if reply.completion.finish_reason == "length":
                        self._fitting.was_cut(request.prompt_id, fit)
                    return reply.completion
        return Completion.unavailable(f"{reason} (after {self._endpoint.attempts} attempts)")

    def _fit(self, request: Request) -> Fit:
        asked = largest_limit(self._body(request, request.max_tokens))
        first = largest_limit(self._body(request, None))
        is_second = request.max_tokens is not None
        return self._fitting.begin(request.prompt_id, asked, (first or 0) if is_second else None)

    def _body(self, request: Request, max_tokens: int | None) -> dict[str, object]:
        return wire.request_body(
            self._endpoint.model,
            self._messages(request),
            self._sampling,
            max_tokens,
            self._template_kwargs,
            self._endpoint.extra_body,
        )

    async def _attempt(
        self, session: Session, who: str, body: Mapping[str, Any]
    ) -> wire.EndpointAnswer | wire.Fault:
        content = json.dumps(body, ensure_ascii=False).encode()
        bound = wire.upper_bound(body, len(content), self._sampling.max_tokens)
        try:
            ticket = await session.limiter.acquire(who, bound)
        except Unavailable as error:
            return wire.EndpointAnswer(Completion.unavailable(str(error)), FREE)
        session.verdicts.sent(ticket)
        try:
            reply = await self._exchange(session, content, body)
            return self._settle(session, ticket, reply)
        except BaseException:  # cancelled while under way
            session.limiter.ended(ticket, None)
            raise
        finally:
            session.verdicts.back(ticket)

    async def _exchange(
        self, session: Session, content: bytes, body: Mapping[str, Any]
    ) -> wire.Reply:
        url, seconds = self._account.url("chat/completions"), self._endpoint.timeout_seconds
        try:
            raw = await session.send("POST", url, content, self._account.sign, seconds)
        except ConfigError as error:  # the key has gone meanwhile
            return wire.Stop(0, str(error))
        if isinstance(raw, wire.Fault):
            return raw
        return wire.read_reply(raw.status, raw.headers, raw.content, self._think_tags, body)

    def _settle(
        self, session: Session, ticket: Ticket, reply: wire.Reply
    ) -> wire.EndpointAnswer | wire.Fault:
        """Tell the limiter how the attempt ended."""
        limiter = session.limiter
        match reply:
            case wire.EndpointAnswer(completion, cost):
                if cost != FREE:
                    session.verdicts.answered(ticket.sent_at)
                    self._note(completion)
                leave = limiter.ended if cost == FREE else limiter.answered
                leave(ticket, cost)
                return reply
            case wire.Fault() if reply.is_overload:
                limiter.overloaded(ticket, reply.cost, reply.reason, reply.pause)
                return reply
            case wire.Fault():
                limiter.ended(ticket, reply.cost)
                return reply
            case wire.Stop():
                reason = self._account.explain(reply.status, reply.reason, reply.cause)
                refusal = reply.refusal if session.verdicts.has_answered else None
                if refusal is None:  # before the place is given to another
                    self._stop(limiter, reason)
                limiter.ended(ticket, FREE)
                return wire.EndpointAnswer(Completion.unavailable(reason), FREE, refusal)

    async def _judged(
        self, session: Session, who: str, refused: Completion, refusal: wire.EndpointRefusal
    ) -> Completion:
        """What a refusal comes to: the prompt's own, or everybody's, which stops the teacher."""
        verdict = await session.verdicts.of(who, refusal.key, session.now)
        if verdict == "own" and refusal.is_lasting:
            return refused
        reason = refused.error or ""
        if verdict == "stop" and refused.finish_reason == "error":
            reason = self._account.explain_alike(reason)
        if verdict == "stop":
            self._stop(session.limiter, reason)
        return Completion.unavailable(reason)

    def _stop(self, limiter: RequestLimiter, reason: str) -> None:
        reason = self._account.clean(reason)
        if limiter.stop(reason):
            logger.warning("No more is asked of %s: %s", self._name, reason)

    def _note(self, completion: Completion) -> None:
        """Say once how an endpoint ends whole responses, where that is no word of ours."""
        note = completion.error
        if completion.text is not None and note is not None and note not in self._notes:
            self._notes.add(note)
            logger.warning("Responses of %s came with %s.", self._name, note)
