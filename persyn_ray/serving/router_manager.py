"""Swaps the router in service: loads a change beside the present one, then puts it in its place.

What may change while a replica serves is the router itself and the settings of `POLICY`. A request
that has begun ends with the router it began with; a change that cannot be loaded is refused, and
the present router goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from persyn_ray.credentials import cut_secrets
from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.serving.chat.budget import require_ledger
from persyn_ray.serving.middleware.key_reloader import KeyReloader
from persyn_ray.serving.route_requests import State, new_state
from persyn_ray.serving.router_model import RouterModel
from persyn_ray.serving.router_source import settings_of

logger = logging.getLogger(__name__)

POLICY = {
    "masked",
    "prices",
    "prior",
    "upstreams",
    "keys",
    "max_chat_tokens",
    "max_choices",
    "chat_budget",
    "chat_ledger",
}
"""Settings that may change without a new replica, beside the router itself."""

WarmUp = Callable[[RouterModel], Awaitable[None]]


class RouterManager:
    """The router in service with its settings. Of one event loop."""

    def __init__(self, settings: ServingConfig, keys: KeyReloader, warm_up: WarmUp) -> None:
        """
        Args:
            settings: The fixed ones; those of `POLICY` come with each change.
            keys: Gets the keys of each change.
            warm_up: Makes a loaded router ready for its first request.
        """
        self.settings = settings
        self.state: State | None = None
        """None until the first router is loaded."""
        self._keys, self._warm_up = keys, warm_up
        self._source: tuple[str, str | None] = ("", None)  # address and content
        self._latest = 0  # number of the latest change
        self._problem: str | None = None
        self._changing = asyncio.Lock()

    @property
    def problem(self) -> str | None:
        """What failed last of a change or of reading the keys, until it goes well again."""
        return " ".join(filter(None, (self._problem, self._keys.problem))) or None

    async def load(self, policy: Mapping[str, Any]) -> None:
        """Put a router and its settings in service, unless a later change has come meanwhile.

        Args:
            policy: `router` (its address), `content` (changes with the router's files), and
                settings of `POLICY`.

        Raises:
            PersynError: there is no such router, or a setting does not fit.
        """
        self._latest += 1
        await self._load(policy, self._latest)

    async def reload(self, policy: Mapping[str, Any]) -> None:
        """The same for a later change: one that fails is told by `problem`, and changes nothing."""
        self._latest += 1
        number = self._latest
        try:
            await self._load(policy, number)
        except Exception as error:  # whatever a folder holds, the present router goes on
            problem = cut_secrets(f"The present router stays: {type(error).__name__}: {error}")
            logger.error("%s", problem)
            if number == self._latest:  # a later change may have gone well
                self._problem = problem

    async def _load(self, policy: Mapping[str, Any], number: int) -> None:
        async with self._changing:
            address, settings = await asyncio.to_thread(self._resolved, policy)
            source = (address, policy.get("content"))
            model = self.state.model if self.state is not None else None
            if model is None or self._source != source:
                model = await asyncio.to_thread(RouterModel, address)
                await self._warm_up(model)
            state, keys = new_state(model, settings), self._keys.read(settings)
            if number == self._latest:
                self.settings, self.state, self._source = settings, state, source
                self._keys.replace(settings, keys)
                self._problem = None
                logger.info("Router %s from %s answers.", model.version, address)

    def _resolved(self, policy: Mapping[str, Any]) -> tuple[str, ServingConfig]:
        """The router's address and all settings: those of a run come from its recipe."""
        given = {name: value for name, value in policy.items() if name in POLICY}
        fixed = self.settings.model_dump(mode="json", exclude=POLICY)
        address, settings = settings_of(policy["router"], fixed | given)
        require_ledger(settings)
        return address, settings
