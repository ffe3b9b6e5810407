"""Records parts of a report that could not be made, and why; one failure stops no other part.

A part is named as its key in report.json (`reward`, `router.hedging`), a step's record as
`records.STEP`, a figure as `figures.NAME`, a part of the page alone as `page.NAME`.
"""

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from persyn_ray.credentials import cut_secrets
from persyn_ray.errors import PersynError

Made = TypeVar("Made")
logger = logging.getLogger(__name__)
LONGEST = 400
"""Characters of a reason: the message of another library may quote a whole file."""


class Problems:
    """Reasons by the name of the part that is missing."""

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self.reasons: dict[str, str] = dict(known or {})

    def attempt(self, part: str, make: Callable[[], Made], otherwise: Made) -> Made:
        """What `make` returns; where it fails, `otherwise`, and the reason is kept.

        Anything is caught: a run may hold whatever an accident left there, and what can be shown
        of it is worth more than the rest.
        """
        try:
            return make()
        except Exception as error:
            logger.debug("part %s of the report could not be made", part, exc_info=True)
            self.reasons[part] = reason_of(error)
            return otherwise


def reason_of(error: Exception) -> str:
    """One sentence of an error: our own messages as they are, others with their type."""
    if isinstance(error, FileNotFoundError):
        text = f"{error.filename or error} is not there."
    elif isinstance(error, KeyError):
        text = f"the entry {error} is missing."
    else:
        text = str(error) if isinstance(error, PersynError) else f"{type(error).__name__}: {error}"
    text = " ".join(cut_secrets(text).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
