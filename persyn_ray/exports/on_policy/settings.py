"""What a user says of teachers to on-policy forms: options of `persyn export`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from persyn_ray.errors import ConfigError

OtherTokenizers = Literal["leave-out", "refuse"]


@dataclass(frozen=True)
class OnPolicySettings:
    """Options of forms whose teachers score the student's own tokens."""

    models: Mapping[str, str] = field(default_factory=dict[str, str])
    """Model of a teacher, by its name: a recorded teacher or an endpoint does not say it."""
    urls: Mapping[str, str] = field(default_factory=dict[str, str])
    """Address of the server that scores for a teacher, by its name."""
    other_tokenizers: OtherTokenizers = "leave-out"
    """What becomes of rows whose teacher has another tokenizer than the student."""

    def require_known(self, teachers: Collection[str]) -> None:
        """Refuse a name that no teacher of the run has.

        Raises:
            ConfigError: names it and those that there are.
        """
        for name in (*self.models, *self.urls):
            if name not in teachers:
                raise ConfigError(
                    f"--teacher-model and --teacher-url name teachers of the run; {name!r} is none "
                    f"of {', '.join(teachers)}."
                )


def named(option: str, values: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, given any number of times, as a mapping.

    Raises:
        ConfigError: one reads otherwise, or a name comes twice.
    """
    found: dict[str, str] = {}
    for given in values:
        name, sign, value = given.partition("=")
        if not (name and sign and value) or name in found:
            raise ConfigError(f"{option} {given!r} must read NAME=VALUE, once for each teacher.")
        found[name] = value
    return found
