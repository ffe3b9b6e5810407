"""Keys that may change while the endpoint serves: with its settings, or in the file of keys."""

import asyncio
import logging
from collections.abc import Mapping

from persyn_ray.errors import PersynError
from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.serving.middleware.api_keys import Keys

logger = logging.getLogger(__name__)

KEYS_SECONDS = 10.0  # after which a changed file of keys is noticed


class KeyReloader:
    """The keys in force, as `Guard` asks for them: nobody's until the first settings are there."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """`environ`: where `serving.keys_env` is looked up."""
        self._environ = environ
        self._keys = Keys({})
        self._settings: ServingConfig | None = None
        self.problem: str | None = None
        """Why the keys could not be read the last time; the former ones hold."""

    def owner(self, key: str) -> str | None:
        """Whose key it is; see `Keys.owner`."""
        return self._keys.owner(key)

    def read(self, settings: ServingConfig) -> Keys:
        """The keys of settings as they stand now; see `Keys.of`."""
        return Keys.of(settings, self._environ)

    def replace(self, settings: ServingConfig, keys: Keys) -> None:
        """Put other settings and their keys in force."""
        self._settings, self._keys, self.problem = settings, keys, None

    async def watch(self) -> None:
        """Read the keys again and again: one that is taken out of the file is let in no longer."""
        while True:
            await asyncio.sleep(KEYS_SECONDS)
            await self.reload()

    async def reload(self) -> None:
        """Read the keys once more; keep the present ones if that fails."""
        settings = self._settings
        if settings is None:
            return
        try:
            keys = await asyncio.to_thread(self.read, settings)
        except PersynError as error:
            self.problem = f"The present keys stay: {error}"
            logger.error("%s", self.problem)
            return
        if settings is self._settings:  # or newer ones have brought their own
            self.replace(settings, keys)
