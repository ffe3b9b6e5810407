"""Names on the Hub: `hub:ORG/NAME` in; ORG/NAME out, or why the Hub would refuse it."""

import re

from persyn_ray.errors import ConfigError

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
PREFIX = "hub:"


def address_of(target: str) -> str:
    """The repository that a target names; by the rules of the Hub's own client.

    Raises:
        ConfigError: it is no such name; nothing was sent.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    address = target.removeprefix(PREFIX)
    if not target.startswith(PREFIX) or address.count("/") != 1:
        raise ConfigError(f"{target!r} must read hub:ORG/NAME, such as hub:my-org/routed-math.")
    organisation, name = address.split("/")
    try:
        if not organisation or not name:
            raise HFValidationError("ORG and NAME must both be there")
        validate_repo_id(address)
    except HFValidationError as error:
        raise ConfigError(f"The Hub refuses the name {address!r}: {error}") from None
    return address
