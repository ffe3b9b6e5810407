"""Budget of forwarded chats (`serving.chat_budget`): one account for each teacher.

A chat is reserved at its upper bound before it is forwarded and settled at what the teacher says it
used. The accounts lie in a ledger that all replicas share and that outlives them (see ledger.py).
"""

import asyncio
import logging
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from persyn_ray.errors import ConfigError, PersynError
from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.serving.error_response import Refusal
from persyn_ray.serving.messages import ChatSpending
from persyn_ray.serving.metrics import Family
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.ledger import Account, spent
from persyn_ray.storage.usage import Usage

logger = logging.getLogger(__name__)

USED_UP = "insufficient_quota"
FINAL = {"x-should-retry": "false"}  # OpenAI's clients try a 429 again unless they are told


def account_folder(settings: ServingConfig, teacher: str) -> Folder:
    """Where a teacher's chats are recorded.

    Raises:
        ConfigError: no ledger is set.
    """
    if settings.chat_ledger is None:
        raise ConfigError(
            "serving.chat_budget needs serving.chat_ledger: a folder or address that all replicas "
            "can write and that outlives them (a run that is served has one of its own)."
        )
    return Folder.absolute(settings.chat_ledger) / "chats" / teacher


def chat_accounts(settings: ServingConfig) -> dict[str, Account]:
    """This process's part of each upstream's account; none without a budget.

    Raises:
        ConfigError: the budget cannot be kept with these settings.
    """
    budget, accounts = settings.chat_budget, dict[str, Account]()
    if budget is None:
        return accounts
    for teacher, upstream in settings.upstreams.items():
        try:
            budget.require_price(upstream.price)
        except ValueError:
            raise ConfigError(
                f"serving.chat_budget.dollars needs serving.upstreams.{teacher}.price: dollars per "
                "million tokens, `prompt` and `response`."
            ) from None
        folder = account_folder(settings, teacher)
        accounts[teacher] = Account(budget, upstream.price, folder)
    return accounts


def require_ledger(settings: ServingConfig) -> None:
    """Write to the ledger of a budget and remove it again.

    Raises:
        ConfigError: it cannot be written.
    """
    if not chat_accounts(settings):
        return
    folder = Folder.absolute(settings.chat_ledger or "")
    probe = f"{uuid.uuid4().hex}.probe"  # replicas may start at once
    try:
        folder.write_bytes(probe, b"")
        folder.remove(probe)
    except (PersynError, OSError) as error:
        raise ConfigError(
            f"serving.chat_budget is recorded in {folder.address}, which cannot be written: set "
            f"serving.chat_ledger to a folder or address that all replicas can write. "
            f"({error.__cause__ or error})"
        ) from error


class Reservation:
    """What is set aside for one chat; free of charge without an account."""

    def __init__(self, account: Account | None, bound: Usage, keeper: ThreadPoolExecutor) -> None:
        self._account, self._bound, self._keeper = account, bound, keeper

    @property
    def is_counted(self) -> bool:
        """Whether somebody has to know the cost."""
        return self._account is not None

    def settle(self, cost: Usage | None) -> None:
        """End it, for good; a cost of None is unknown, and the bound counts."""
        account, self._account = self._account, None
        if account is not None:
            account.settle(self._bound, cost)
            self._keeper.submit(_rest, account)


async def reserve(
    teacher: str, account: Account | None, bound: Usage, keeper: ThreadPoolExecutor
) -> Reservation:
    """Set a chat's upper bound aside, in the ledger first.

    Args:
        keeper: One thread that gives back what was reserved ahead.

    Raises:
        Refusal: 429 with code insufficient_quota over the budget, 503 without a ledger.
    """
    while account is not None and not account.take(bound):
        try:
            has_room = await asyncio.to_thread(account.more, bound)
        except (PersynError, OSError) as error:
            logger.error("Spending on %s cannot be recorded: %s", teacher, error)
            raise Refusal(503, "What chats cost cannot be recorded: none is forwarded.") from error
        except asyncio.CancelledError:
            keeper.submit(_rest, account)  # after the reservation that still goes on
            raise
        if not has_room:
            text = f"serving.chat_budget of teacher {teacher!r}: {account.refusal(bound)}."
            raise Refusal(429, text, FINAL, USED_UP)
    return Reservation(account, bound, keeper)


def _rest(account: Account) -> None:
    try:
        account.rest()
    except Exception as error:  # whatever the storage raises; the next chat tries again
        logger.warning("The ledger of chats has more than was spent: %s", error)


async def spending(
    settings: ServingConfig, teachers: Mapping[str, Account]
) -> dict[str, ChatSpending]:
    """What chats have cost by teacher, over all replicas and since the ledger was begun.

    Raises:
        Refusal: 503 while the ledger cannot be read.
    """
    return await asyncio.to_thread(_spending, settings, list(teachers))


def _spending(settings: ServingConfig, teachers: list[str]) -> dict[str, ChatSpending]:
    budget, found = settings.chat_budget, dict[str, ChatSpending]()
    if budget is None:
        return found
    try:
        for teacher in teachers:
            total = spent(account_folder(settings, teacher))
            found[teacher] = ChatSpending(
                tokens=total.tokens,
                dollars=total.dollars,
                open_tokens=total.open_tokens,
                budget_tokens=budget.tokens,
                budget_dollars=budget.dollars,
            )
    except (PersynError, OSError) as error:
        logger.error("Spending on chats cannot be read: %s", error)
        raise Refusal(503, "What chats have cost cannot be read; the log says why.") from error
    return found


def spending_families(by_teacher: Mapping[str, ChatSpending]) -> list[Family]:
    """The same as metrics; not summed over replicas, for each sees all."""
    texts = {
        "tokens": "Tokens of forwarded chats that count as spent, by the ledger.",
        "dollars": "What they cost, in dollars.",
        "open_tokens": "Those of the tokens that are not settled.",
    }
    return [
        Family(
            f"persyn_chat_{name}",
            "gauge",
            text,
            tuple(
                (f"persyn_chat_{name}", (("teacher", teacher),), float(getattr(one, name)))
                for teacher, one in by_teacher.items()
            ),
        )
        for name, text in texts.items()
        if by_teacher
    ]
