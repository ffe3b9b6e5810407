"""Address and API key of an endpoint, and what its refusals mean for the teacher.

The key is read from its environment variable or file each time a request is signed, so that a
changed one counts, and is never an attribute, part of a message or of an exception's cause.
"""

import difflib
import fnmatch
import json
import logging
import os
from pathlib import Path
from urllib.parse import quote

import httpx

from persyn_ray.credentials import CUT, cut_secrets
from persyn_ray.data.response_text import valid_unicode
from persyn_ray.engines.openai import wire
from persyn_ray.engines.openai.error_kinds import Cause
from persyn_ray.engines.openai.session import Raw
from persyn_ray.errors import ConfigError
from persyn_ray.recipe.engines import OpenAIEngineConfig as Endpoint

logger = logging.getLogger(__name__)

LONGEST_MESSAGE = 500  # characters of a server's message that are kept
LONGEST_READ = 16_384  # characters of one in which secrets are looked for
SHORTEST_SECRET = 6  # characters; endpoints without keys are often given `none` or `EMPTY`
NUM_NAMED = 5  # models of the endpoint that an error lists
WITHOUT_LIST = frozenset({404, 405, 501})  # endpoints need not list their models


class EndpointAccount:
    """Address and key of one teacher."""

    def __init__(self, teacher: str, endpoint: Endpoint) -> None:
        """Look at the address alone.

        Raises:
            ConfigError: it is no web address.
        """
        self._teacher, self._model = teacher, endpoint.model
        self._env, self._file = endpoint.api_key_env, endpoint.api_key_file
        self._base = _address(teacher, endpoint.base_url)

    def url(self, path: str) -> str:
        """Address of one of the endpoint's services."""
        return str(self._base.copy_with(path=f"{self._base.path.rstrip('/')}/{path}"))

    def key(self) -> str | None:
        """The key, or None for an endpoint without keys.

        Raises:
            ConfigError: the recipe names a place for it, but there is no usable key.
        """
        if self._file is None and self._env is None:
            return None
        try:
            found = os.environ.get(self._env or "", "")
            key = (found if self._file is None else Path(self._file).read_text("utf-8")).strip()
        except OSError as error:
            raise ConfigError(self._no_key(error.strerror or type(error).__name__)) from None
        except UnicodeDecodeError:  # holds the file's content
            raise ConfigError(self._no_key("it is no text")) from None
        if not key:
            raise ConfigError(self._no_key("it is empty or not set"))
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError(self._no_key("it holds characters that no key has"))
        return key

    def sign(self, request: httpx.Request) -> httpx.Request:
        """Put the key into a request."""
        key = self.key()
        if key is not None:
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    def clean(self, text: str) -> str:
        """A message as it may be shown and stored: short, valid Unicode and without the key."""
        text = valid_unicode(cut_secrets(self.without_key(text)[:LONGEST_READ]))
        return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]} ..."

    def without_key(self, text: str) -> str:
        """A text of the endpoint, which may repeat what it was sent."""
        try:
            key = self.key()
        except ConfigError:
            key = None
        if key is None or len(key) < SHORTEST_SECRET:
            return text
        for form in {key, quote(key, safe=""), json.dumps(key)[1:-1]}:
            text = text.replace(form, CUT)
        return text

    def explain(self, status: int, reason: str, cause: Cause | None = None) -> str:
        """What is wrong, and with which setting, when an endpoint will answer nothing."""
        if status == 0:
            return reason
        where = f"Teacher {self._teacher!r}: {self._shown}"
        is_model = cause == "model" or (status == 404 and "model" in reason.lower())
        if cause == "money" or status == 402:
            return f"{where} has no credit left for {self._place} ({reason})"
        if is_model:
            return f"{where} does not know the model {self._model!r}, engine.model ({reason})"
        if cause == "parameter":
            return (
                f"{where} refuses a parameter ({reason}); change it in `sampling`, or leave it out "
                "with `NAME: null` in engine.extra_body"
            )
        if cause == "key" or status in (401, 403):
            return f"{where} refuses {self._place} ({reason})"
        if status == 404:
            return (
                f"{where} has no such address, or not the model {self._model!r}: correct "
                f"engine.base_url or engine.model ({reason})"
            )
        if status < 400:
            return f"{where} is elsewhere: correct engine.base_url ({reason})"
        return f"{where} answers no prompt ({reason})"

    def explain_alike(self, reason: str) -> str:
        """What is wrong when an endpoint refuses one prompt like the other."""
        return (
            f"Teacher {self._teacher!r}: {self._shown} refuses all prompts alike ({reason}); what "
            "is sent stands in `sampling` and engine.extra_body"
        )

    def judge_models(self, reply: Raw | wire.Fault) -> None:
        """Accept what the endpoint said about its models.

        Raises:
            ConfigError: it is out of reach or refuses the key.
        """
        if isinstance(reply, wire.Fault):
            raise ConfigError(
                f"Teacher {self._teacher!r}: {self._shown} cannot be reached (engine.base_url): "
                f"{self.clean(reply.reason)}"
            )
        if reply.status in WITHOUT_LIST or reply.status == 429:  # alive, but busy
            return
        if reply.status != 200:
            reason = f"status {reply.status}: {wire.complaint(reply.content)}"
            raise ConfigError(self.clean(self.explain(reply.status, reason)))
        try:
            names = wire.listed_models(reply.content)
        except ValueError:
            raise ConfigError(
                f"Teacher {self._teacher!r}: {self._shown} answers with something other than JSON; "
                "engine.base_url of most endpoints ends with /v1"
            ) from None
        self._find_model(names)

    def _find_model(self, names: list[str] | None) -> None:
        """Warn of a model that is not listed; what an endpoint lists is not all it answers to."""
        if not names or any(_is_listed_as(self._model, name) for name in names):
            return
        close = difflib.get_close_matches(self._model, names, NUM_NAMED, 0.3)
        shown = (close + [name for name in sorted(names) if name not in close])[:NUM_NAMED]
        logger.warning(
            "%s",
            self.clean(
                f"Teacher {self._teacher!r}: {self._shown} does not list the model "
                f"{self._model!r} (engine.model); of its {len(names)} models some are {shown}. "
                "The first prompt decides"
            ),
        )

    def near(self) -> list[str]:
        """Addresses that are easily meant by the given one."""
        path = self._base.path.rstrip("/")
        if path.endswith("/v1"):
            paths = [path.removesuffix("/v1")]
        else:
            paths = [f"{path}/v1"] + (["/api/v1", "/openai/v1"] if not path else [])
        return [str(self._base.copy_with(path=near or "/")).rstrip("/") for near in paths]

    def explain_address(self, better: str) -> str:
        """What to change where an endpoint is at another address than the given one."""
        return self.clean(
            f"Teacher {self._teacher!r}: there is no endpoint at {self._shown}, engine.base_url; "
            f"{better} is one"
        )

    @property
    def _shown(self) -> str:
        """The address without what may be secret in it."""
        return str(self._base.copy_with(userinfo=b"", query=None))

    @property
    def _place(self) -> str:
        if self._file is not None:
            return f"the key in the file {self._file} (engine.api_key_file)"
        if self._env is not None:
            return f"the key in the environment variable {self._env} (engine.api_key_env)"
        return "requests without a key (engine.api_key_env)"

    def _no_key(self, problem: str) -> str:
        return (
            f"Teacher {self._teacher!r} needs {self._place}: {problem}. "
            "An endpoint without keys has `api_key_env: null`."
        )


def _is_listed_as(model: str, name: str) -> bool:
    """Whether a listed name stands for a model: `models/NAME`, `NAME:latest`, `openai/*`.

    An ending such as `:nitro` says how a model is run.
    """
    plain, listed = model.partition(":")[0], name.partition(":")[0]
    return (
        f"/{name}".endswith((f"/{model}", f"/{plain}"))
        or f"/{listed}".endswith(f"/{model}")
        or ("*" in name and fnmatch.fnmatchcase(model, name))
    )


def _address(teacher: str, given: str) -> httpx.URL:
    try:
        url = httpx.URL(given)
        url.host.encode("idna")  # a label of more than 63 characters, say
        is_fine = url.scheme in ("http", "https") and url.host != "" and (url.port or 0) < 2**16
    except (httpx.InvalidURL, UnicodeError):
        is_fine, url = False, httpx.URL()
    if not is_fine:
        raise ConfigError(
            f"Teacher {teacher!r} has engine.base_url {given!r}, which is no web address; "
            "one looks like https://host/v1."
        )
    return url
