"""API keys of the endpoint: made, and checked by their SHA-256 digests; keys are not kept.

No message of this module repeats what stands in an unreadable entry: it may be a key.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.serving import ServingConfig

ENTRY = re.compile(r"([A-Za-z0-9._@-]{1,64}):([0-9a-f]{64})")
FORM = (
    "NAME:SHA256 (a name of up to 64 letters, digits and . _ @ -, and 64 lower-case hex digits), "
    "as `persyn key NAME` prints it"
)
Entry = tuple[str, str, str]  # owner, digest, where it stands


@dataclass(frozen=True)
class Keys:
    """The keys that are known, by their owners."""

    digests: Mapping[str, str] = field(repr=False)
    """SHA-256 of each owner's key, as 64 hex digits."""

    @classmethod
    def of(cls, settings: ServingConfig, environ: Mapping[str, str]) -> "Keys":
        """Those of the settings, of the environment variable and of the file together.

        Raises:
            ConfigError: an entry cannot be read, an owner or a key stands there twice, or there
                is no key at all.
        """
        digests: dict[str, str] = {}
        owners: dict[str, str] = {}
        for owner, digest, where in _entries(settings, environ):
            if digest in NO_KEYS:
                raise ConfigError(f"{where}: {owner!r} has the digest of an empty key")
            if owner in digests:
                raise ConfigError(f"{where}: {owner!r} has a key already; give each its own name")
            if digest in owners:
                raise ConfigError(f"{where}: {owner!r} has the same key as {owners[digest]!r}")
            digests[owner], owners[digest] = digest, owner
        if not digests:
            raise ConfigError(
                "The endpoint has no API key: `persyn key NAME` makes one for serving.keys, the "
                f"environment variable {settings.keys_env} (serving.keys_env) or serving.keys_file"
            )
        return cls(digests)

    def owner(self, key: str) -> str | None:
        """Whose key it is, in a time that does not tell how much of it is right."""
        given = _digest(key)
        found = None
        for owner, digest in self.digests.items():  # all of them, whichever fits
            if hmac.compare_digest(given, digest):
                found = owner
        return found


def new_key() -> tuple[str, str]:
    """A fresh key of 256 random bits, and its digest."""
    key = f"pk-{secrets.token_urlsafe(32)}"
    return key, _digest(key)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


# What hashing an unset shell variable gives
NO_KEYS = frozenset(_digest(nothing) for nothing in ("", "\n", "\r\n"))


def _entries(settings: ServingConfig, environ: Mapping[str, str]) -> Iterator[Entry]:
    for owner, digest in settings.keys.items():
        yield _entry(f"{owner}:{digest}", "serving.keys")
    where = f"Environment variable {settings.keys_env} (serving.keys_env)"
    for number, entry in enumerate(environ.get(settings.keys_env, "").split(","), start=1):
        if entry.strip():
            yield _entry(entry, f"{where}, entry {number}")
    if settings.keys_file is not None:
        where = f"File {settings.keys_file} (serving.keys_file)"
        for number, line in enumerate(_text(settings.keys_file, where).splitlines(), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield _entry(line, f"{where}, line {number}")


def _entry(text: str, where: str) -> Entry:
    match = ENTRY.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{where}: an entry has to be {FORM}")
    return match[1], match[2], where


def _text(path: str, where: str) -> str:
    try:
        return Path(path).read_text("utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"{where} cannot be read: {reason}") from None
    except ValueError:  # no UTF-8, and the exception holds the content; or a path with a zero byte
        raise ConfigError(f"{where} is no text; each line has to be {FORM}") from None
