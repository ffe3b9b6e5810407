"""Checks an endpoint before a run: reachable, key accepted, address complete.

Only lists are asked for, so that nothing is spent. What an endpoint lists does not decide about a
model: many answer to names that they do not list, and the first prompt tells.
"""

import asyncio

from persyn_ray.engines.openai import wire
from persyn_ray.engines.openai.account import EndpointAccount
from persyn_ray.engines.openai.pacing import backoff
from persyn_ray.engines.openai.session import Raw, Session
from persyn_ray.errors import ConfigError

CHECK_SECONDS, CHECK_ATTEMPTS = 30.0, 3


async def check_endpoint(
    session: Session, account: EndpointAccount, seconds: float, delay: float
) -> None:
    """Ask an endpoint for its models, as often as a short trouble needs.

    Args:
        seconds: limit of one request.
        delay: seconds before the second attempt.

    Raises:
        ConfigError: it is out of reach, refuses the key, or its address lacks a part.
    """
    seconds = min(CHECK_SECONDS, seconds)
    reply = await _models(session, account, seconds, delay)
    if isinstance(reply, Raw) and (reply.status == 404 or _is_page(reply)):
        better = await _better_address(session, account, seconds, reply)
        if better is not None:
            raise ConfigError(account.explain_address(better))
    account.judge_models(reply)


async def _models(
    session: Session, account: EndpointAccount, seconds: float, delay: float
) -> Raw | wire.Fault:
    for failures in range(1, CHECK_ATTEMPTS + 1):
        reply = await session.send("GET", account.url("models"), None, account.sign, seconds)
        if isinstance(reply, Raw) and reply.status < 500:
            break
        if failures < CHECK_ATTEMPTS:
            await asyncio.sleep(backoff(failures, delay, account.url("models")))
    return reply


async def _better_address(
    session: Session, account: EndpointAccount, seconds: float, reply: Raw
) -> str | None:
    """An address near the given one where there is an endpoint, and at the given one none."""
    if reply.status == 404:  # an endpoint need not list its models
        chats = account.url("chat/completions")
        there = await session.send("GET", chats, None, account.sign, seconds)
        if isinstance(there, Raw) and there.status != 404 and not _is_page(there):
            return None
    for address in account.near():
        found = await session.send("GET", f"{address}/models", None, account.sign, seconds)
        if isinstance(found, Raw) and (found.status in (401, 403) or _is_list(found)):
            return address
    return None


def _is_page(reply: Raw) -> bool:
    """Whether what came is a page for people, as at the root of many servers."""
    if reply.status != 200:
        return False
    try:
        wire.listed_models(reply.content)
    except ValueError:
        return True
    return False


def _is_list(reply: Raw) -> bool:
    if reply.status != 200 or _is_page(reply):
        return False
    return wire.listed_models(reply.content) is not None
