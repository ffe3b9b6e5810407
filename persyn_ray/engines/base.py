"""Interface of engines: conversations in (`Request`), responses out (`Completion`).

An engine answers every request it is given, one completion a request and in their order. A request
that cannot be answered is a completion with finish reason `error`, never an exception: an engine
raises only when it is broken itself. Engines know no tables, no splits and no Ray.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypedDict, runtime_checkable

from persyn_ray.credentials import cut_secrets

FinishReason = Literal["stop", "length", "loop", "error", "missing", "unavailable"]
"""How a response ended: by the teacher, cut by its token limit, in a circle; or why there is none:
the prompt cannot be answered, nothing is recorded, or the teacher could not be reached (that is not
stored, so the pair is asked again whenever its step is done anew)."""


class Message(TypedDict):
    """One turn of a conversation."""

    role: str  # system | user | assistant
    content: str


Conversation = Sequence[Message]


@dataclass(frozen=True)
class Request:
    """A conversation that waits for its answer."""

    prompt_id: str
    messages: Conversation
    max_tokens: int | None = None  # in place of the teacher's own limit


@dataclass(frozen=True)
class Completion:
    """What came of a request; `text` is None with finish reason error, missing or unavailable."""

    text: str | None
    finish_reason: FinishReason
    num_prompt_tokens: int  # 0 where the engine has no tokens
    num_tokens: int  # tokens written, the end-of-turn token included; 0 where the engine has none
    error: str | None = None

    @classmethod
    def failed(cls, reason: str, num_prompt_tokens: int = 0) -> "Completion":
        """A request that could not be answered, and why."""
        return cls(None, "error", num_prompt_tokens, 0, cut_secrets(reason))

    @classmethod
    def unavailable(cls, reason: str) -> "Completion":
        """A request that another run may have answered, and why this one could not."""
        return cls(None, "unavailable", 0, 0, cut_secrets(reason))


Done = Callable[[int, Completion], None]
"""Takes a completion as soon as it is there, with the place of its request; returns at once."""


class Engine(Protocol):
    """Whatever writes text for one teacher."""

    overlaps: ClassVar[bool]
    """Whether it is a `StreamingEngine`."""

    def check(self) -> None:
        """Refuse a teacher that cannot work at all, before anything is spent; loads no weights.

        Raises:
            ConfigError: with the teacher's name and the setting that is wrong.
        """
        ...

    def refuses(self, request: Request) -> str | None:
        """Why this request can never be answered, or None; loads no weights."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion for each request, in order."""
        ...

    def close(self) -> None:
        """Give back memory and processes; the engine may be used again and then starts anew."""
        ...


@dataclass(frozen=True)
class Occupancy:
    """How full an engine was, as sums over the time in which anything ran."""

    seconds: float = 0.0
    running_seconds: float = 0.0
    """Seconds times responses that ran."""
    kv_seconds: float = 0.0
    """Seconds times the used share of the KV cache."""
    most_running: int = 0

    def __add__(self, other: "Occupancy") -> "Occupancy":
        return Occupancy(
            self.seconds + other.seconds,
            self.running_seconds + other.running_seconds,
            self.kv_seconds + other.kv_seconds,
            max(self.most_running, other.most_running),
        )


@runtime_checkable
class StreamingEngine(Engine, Protocol):
    """An engine that works on the requests of several threads at once, and ends each by itself."""

    def stream(self, requests: Sequence[Request], done: Done) -> None:
        """Answer all requests; each completion is handed over when it is there, in any order."""
        ...

    def take_occupancy(self) -> Occupancy:
        """How full it was since this was last asked; nothing where it does not know."""
        ...


def in_order(num_requests: int, stream: Callable[[Done], None]) -> list[Completion]:
    """Completions of a stream in the order of their requests."""
    found: dict[int, Completion] = {}
    stream(found.__setitem__)
    return [found[place] for place in range(num_requests)]


def with_system_prompt(messages: Conversation, system_prompt: str | None) -> list[Message]:
    """The conversation behind a system prompt; one with its own keeps it, after this one.

    Two system messages in a row are refused by most chat templates, hence the joining.
    """
    if system_prompt is None:
        return list(messages)
    if messages and messages[0]["role"] == "system":
        joined = f"{system_prompt}\n\n{messages[0]['content']}"
        return [Message(role="system", content=joined), *messages[1:]]
    return [Message(role="system", content=system_prompt), *messages]


def last_user_text(messages: Conversation) -> str:
    """Content of the last user message; empty without one."""
    texts = [message["content"] for message in messages if message["role"] == "user"]
    return texts[-1] if texts else ""
